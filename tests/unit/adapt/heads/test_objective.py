"""HeadsObjective: what each head should expect, and where, over a decoder whose states are its ids."""

from __future__ import annotations

import torch

from bloomery.adapt.heads.objective import HeadsObjective
from bloomery.models import Decoder, ModelConfig
from bloomery.models.future_heads import FutureHeads, FutureHeadsConfig
from bloomery.training.linear_cross_entropy import IGNORED


def test_targets_are_of_one_document():
    """Labels are the next tokens; -100 where a text ends: no head looks beyond."""
    decoder = Decoder.__new__(Decoder)
    torch.nn.Module.__init__(decoder)
    decoder.hidden_states = lambda ids: ids[..., None].float().expand(*ids.shape, 4)
    decoder.model = torch.nn.Module()
    decoder.model.embed_tokens = torch.nn.Embedding(20, 4)
    heads = FutureHeads(FutureHeadsConfig(heads=2, hidden_size=4, vocab_size=20))
    objective = HeadsObjective(heads, decoder, None, None)  # type: ignore[arg-type]
    ids, labels = torch.tensor([[1, 2, 3, 10, 11, 12]]), torch.tensor([[2, 3, IGNORED, 11, 12, 13]])
    found = list(objective._by_head(ids, labels))
    assert [targets.tolist() for _, targets, _ in found] == [
        [3, IGNORED, IGNORED, 12, 13],
        [IGNORED, IGNORED, IGNORED, 13],
    ]
    # A head that has learnt nothing yet has the state that it began with; the decoder's own are those places further.
    assert [states[:, 0].tolist() for states, _, _ in found] == [[1, 2, 3, 10, 11], [1, 2, 3, 10]]
    assert [own[:, 0].tolist() for _, _, own in found] == [[2, 3, 10, 11, 12], [3, 10, 11, 12]]


def test_loss_is_pytorchs_cross_entropy_over_heads():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ModelConfig(
        vocab_size=20, **sizes, num_key_value_heads=2, head_dim=8, max_position_embeddings=16, eos_token_id=()
    )
    decoder, heads = Decoder(config).eval(), FutureHeads(FutureHeadsConfig(heads=2, hidden_size=16, vocab_size=20))
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    objective = HeadsObjective(heads, decoder, None, None)  # type: ignore[arg-type]
    ids, labels = torch.randint(20, (3, 9)), torch.randint(20, (3, 9))
    labels[1, 4] = labels[2, 8] = IGNORED
    states, expected = decoder.hidden_states(ids).detach(), []
    for k, head in enumerate(heads.heads, 1):
        embedded = decoder.model.embed_tokens(labels.clamp_min(0))[:, k - 1 : 9 - 1]
        states = head(states[:, : 9 - k], embedded)
        targets = labels[:, k:].clone()
        for before in range(k):  # no token between may be missing either
            targets[labels[:, before : before + 9 - k] == IGNORED] = IGNORED
        logits = decoder.logits(states).flatten(0, 1)
        kind = torch.nn.functional.cross_entropy
        expected.append(kind(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum"))
    found = objective.loss({"input_ids": ids, "labels": labels})
    assert torch.allclose(found, torch.stack(expected).mean(), rtol=1e-5)
    found.backward()
    assert all(parameter.grad is not None for parameter in heads.parameters())
