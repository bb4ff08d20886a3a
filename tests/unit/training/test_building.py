"""Models that objectives ask for: families that fit, heads that are exchanged, weights that are kept."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.models import Decoder, save_pretrained
from bloomery.models.decoder_classifier import DecoderClassifier
from bloomery.models.encoder import Encoder, save_encoder
from bloomery.models.recurrent import RecurrentSeq2Seq, save_recurrent
from bloomery.models.seq2seq import Seq2Seq, save_seq2seq
from bloomery.tokenizer import Tokenizer
from bloomery.training.building import FAMILIES, NetConfig, build, rebuild, with_head

SMALL = {"hidden_size": 32, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def tokenizer(material) -> Tokenizer:
    return Tokenizer.load(material.tokenizer.path)


@pytest.mark.parametrize(("objective", "family"), [(o, f) for o, known in FAMILIES.items() for f in known])
def test_every_family_is_built_for_its_objectives(tokenizer, objective, family):
    net = NetConfig(family=family, dropout=0.1, **SMALL)  # type: ignore[arg-type]
    model = build(objective, net, tokenizer, context_length=32, num_labels=3)
    assert all(p.requires_grad for p in model.parameters())
    ids = torch.tensor([[1, 2, 3, 4]])
    if objective in ("classes", "values"):
        assert model(ids, torch.ones_like(ids)).shape == (1, 3)
    elif objective == "tags":
        assert model(ids).shape == (1, 4, 3)


def test_a_family_that_does_not_fit(tokenizer):
    with pytest.raises(ConfigError, match="cannot be trained as 'masked'"):
        build("masked", NetConfig(family="gru"), tokenizer, context_length=32)


def test_windows_hide_what_is_far_below_the_last_layer(tokenizer):
    net = NetConfig(hidden_size=32, num_hidden_layers=2, local_attention=4)
    encoder = build("masked", net, tokenizer, context_length=32)
    assert isinstance(encoder, Encoder)
    assert encoder.config.layer_types == ("sliding_attention", "full_attention")
    seen: list[torch.Tensor] = []

    def note(_module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> None:
        seen.append(output)

    encoder.layers[0].register_forward_hook(note)
    ids = torch.arange(20)[None]
    after = [encoder.eval().hidden_states(x) for x in (ids, ids.index_fill(1, torch.tensor([10]), 30))]
    below, above = ((a - b).abs().amax(-1)[0] > 0 for a, b in (seen, after))
    assert below.nonzero().flatten().tolist() == [8, 9, 10, 11, 12]  # two on either side
    assert above.all()
    with pytest.raises(ConfigError, match="no windows"):
        build("masked", NetConfig(family="bert", local_attention=4), tokenizer, context_length=32)


def test_the_body_is_kept_under_another_head(tokenizer):
    masked = build("masked", NetConfig(**SMALL), tokenizer, context_length=32)  # type: ignore[arg-type]
    assert isinstance(masked, Encoder)
    made = with_head(masked, "sequence", 3)
    ids = torch.tensor([[1, 2, 3, 4]])
    masked.eval(), made.eval()
    assert torch.equal(masked.hidden_states(ids), made.hidden_states(ids)) and made(ids).shape == (1, 3)
    assert with_head(masked, "masked") is masked


def test_models_that_are_there(tokenizer, tmp_path):
    cases = {
        "masked": (Encoder, save_encoder, "classes", Encoder),
        "causal": (Decoder, save_pretrained, "classes", DecoderClassifier),
        "spans": (Seq2Seq, save_seq2seq, "sequence", Seq2Seq),
        "sequence": (RecurrentSeq2Seq, save_recurrent, "sequence", RecurrentSeq2Seq),
    }
    for objective, (kind, save, other, made) in cases.items():
        family = "gru" if kind is RecurrentSeq2Seq else ""
        model = build(objective, NetConfig(family=family, **SMALL), tokenizer, context_length=32)  # type: ignore[arg-type]
        assert isinstance(model, kind)
        save(model, tmp_path / objective)  # type: ignore[arg-type]
        again = rebuild(other, tmp_path / objective, tokenizer, num_labels=4)
        assert isinstance(again, made) and all(p.requires_grad for p in again.parameters()) and again.training
    with pytest.raises(ConfigError, match="cannot be trained as 'spans'"):
        rebuild("spans", tmp_path / "causal", tokenizer)
