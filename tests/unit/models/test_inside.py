"""Capture: nothing is changed by it, caches and windows included, memory bounded, the recurrent nets too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bloomery.core.errors import ConfigError, RequestError
from bloomery.models import Decoder, KVCache, ModelConfig
from bloomery.models.inside import AttentionLook, SourceLook, capture, chunks, grid, stacks
from bloomery.models.recurrent import RecurrentConfig, RecurrentSeq2Seq

SIZES: dict[str, Any] = {
    "vocab_size": 53,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 8192,
}
WINDOW = {"sliding_window": 5, "layer_types": ("sliding_attention", "full_attention")}
NAMES = ["model.layers.0.self_attn", "model.layers.1.self_attn"]


def _decoder(**options: Any) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig(**{**SIZES, **options})).eval()
    with torch.no_grad():  # a new one's blocks are the identity
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return decoder


def _ids(length: int, rows: int = 1) -> torch.Tensor:
    return torch.randint(0, 53, (rows, length), generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def test_the_served_numbers_stay_the_same_and_hooks_go():
    decoder, ids = _decoder(), _ids(11)
    before = decoder(ids)
    with capture(decoder) as looks:
        assert torch.equal(decoder(ids), before)
    assert sorted(looks) == NAMES
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in decoder.modules())
    with pytest.raises(RuntimeError), capture(decoder):
        raise RuntimeError
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in decoder.modules())


def test_chosen_layers_only():
    decoder = _decoder()
    assert stacks(decoder) == {"model.layers.self_attn": NAMES}
    with capture(decoder, NAMES[1:]) as looks:
        decoder(_ids(4))
    assert list(looks) == NAMES[1:]
    with pytest.raises(ConfigError, match=r"model\.layers\.7"), capture(decoder, ["model.layers.7.self_attn"]):
        pass


BLOOM = {
    "model_type": "bloom",
    "num_key_value_heads": 4,
    "intermediate_size": 128,
    "hidden_act": "gelu_pytorch_tanh",
    "attention_bias": True,
    "mlp_bias": True,
    "tie_word_embeddings": True,
}
OWN = {"model_type": "bloomery", "value_embedding_layers": (0, 1), "bigram_vocab_size": 31}


@pytest.mark.parametrize("options", [WINDOW, BLOOM, OWN], ids=["windows", "alibi", "value embeddings"])
@torch.inference_mode()
def test_a_step_with_a_cache_is_the_last_row_of_the_whole(options: dict[str, Any]):
    decoder, ids = _decoder(**options), _ids(12, rows=2)
    with capture(decoder) as whole:
        decoder(ids)
    assert all(look.max_difference() < 1e-5 for look in whole.values())
    cache = KVCache(decoder.config, 2, 16)
    decoder(ids[:, :9], cache=cache)
    with capture(decoder) as looks:
        decoder(ids[:, 9:], cache=cache)
    for name in NAMES:
        assert looks[name].shape == (2, 4, 3, 12)
        assert looks[name].max_difference() < 1e-5
        for query in range(3):
            one, other = looks[name].row(2, query, batch=1), whole[name].row(2, 9 + query, batch=1)
            assert torch.allclose(one.weights, other.weights, atol=1e-6)
            assert torch.allclose(one.products, other.products, atol=1e-5)
    hidden = options is WINDOW
    assert (looks[NAMES[0]].row(0, 2).weights[:7] == 0).all() == hidden
    assert (looks[NAMES[1]].row(0, 2).weights > 0).all()


def test_bfloat16_is_near():
    decoder, ids = _decoder().bfloat16(), _ids(40)
    with capture(decoder) as looks, torch.no_grad():
        decoder(ids)
    look = looks[NAMES[1]]
    assert isinstance(look, AttentionLook)
    # A number of bfloat16 has 8 bits; the kernel keeps more between, but rounds its sums.
    assert look.max_difference() < 2**-6 * float(look.served.abs().max())
    assert look.weights(0, 40).dtype == torch.float32


def test_what_is_captured_in_training_holds_no_graph():
    decoder = _decoder().train()
    with capture(decoder) as looks:
        decoder(_ids(6)).sum().backward()
    row = looks[NAMES[0]].row(0, 3)
    assert not row.weights.requires_grad and not looks[NAMES[0]].weights(0, 6).requires_grad


@pytest.mark.parametrize(("head", "query", "word"), [(4, 0, "head 4"), (-1, 0, "head -1"), (0, 6, "query 6")])
def test_places_that_are_not_there(head: int, query: int, word: str):
    decoder = _decoder()
    with capture(decoder) as looks:
        decoder(_ids(6))
    with pytest.raises(RequestError, match=word):
        looks[NAMES[0]].row(head, query)
    with pytest.raises(RequestError, match="row 1"):
        looks[NAMES[0]].row(0, 0, batch=1)


def test_a_grid_is_exact_when_small_and_pooled_when_not():
    decoder = _decoder()
    with capture(decoder) as looks:
        decoder(_ids(23))
    look = looks[NAMES[1]]
    weights = look.weights(0, 23, head=3)[0]
    assert torch.equal(weights, look.weights(0, 23)[3])
    assert grid(look, 3).exact and torch.allclose(grid(look, 3).means, weights, atol=1e-6)
    pooled = grid(look, 3, limit=6)  # 23 in blocks of four, the last of three
    assert (pooled.row_block, pooled.column_block, pooled.means.shape) == (4, 4, (6, 6)) and not pooled.exact
    assert torch.allclose(pooled.means[2, 1], weights[8:12, 4:8].mean())
    assert torch.allclose(pooled.means[5, 5], weights[20:, 20:].mean())
    assert torch.allclose(pooled.maxima[5, 2], weights[20:, 8:12].max())


class _Largest(TorchDispatchMode):
    """The numbers of the largest tensor that any operation gives back, views left out, and all that were given."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.fixture(scope="module")
def long() -> Iterator[tuple[Decoder, torch.Tensor]]:
    yield _decoder(num_hidden_layers=1), _ids(4096)


def test_memory_stays_bounded_at_4096_tokens(long: tuple[Decoder, torch.Tensor]):
    """No tensor of H x T x T = 67 million numbers, nor of T x T: the largest are the 4 million of a chunk."""
    decoder, ids = long
    with _Largest() as seen:
        with capture(decoder) as looks, torch.inference_mode():
            decoder.hidden_states(ids)
        look = looks[NAMES[0]]
        assert look.shape == (1, 4, 4096, 4096)
        look.row(1, 4095)
        picture = grid(look, 1)
        assert look.max_difference() < 1e-5
    assert picture.means.shape == (256, 256)
    assert seen.largest <= 1 << 22 < 4096 * 4096
    with _Largest() as all_at_once:  # the meter does see what is avoided
        look.weights(0, 4096, head=0)
    assert all_at_once.largest >= 4096 * 4096


def test_chunks_cover_every_query(long: tuple[Decoder, torch.Tensor]):
    decoder, ids = long
    with capture(decoder) as looks, torch.inference_mode():
        decoder.hidden_states(ids[:, :3000])
    parts = list(chunks(looks[NAMES[0]]))
    assert [start for start, _ in parts] == [0, *[stop for _, stop in parts[:-1]]] and parts[-1][1] == 3000
    assert len(parts) > 1


@pytest.mark.parametrize("kind", ["additive", "dot"])
@torch.inference_mode()
def test_a_recurrent_net_over_its_source(kind: str):
    torch.manual_seed(0)
    sizes = {"source_vocab_size": 20, "target_vocab_size": 20, "embedding_size": 16, "hidden_size": 32}
    net = RecurrentSeq2Seq(RecurrentConfig(**sizes, context=kind, bidirectional=True)).eval()
    source = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 0, 0, 0]])
    target = torch.tensor([[1, 5, 6], [1, 7, 8]])
    with capture(net) as looks:
        net(source, target)
    look = looks["attention"]
    assert isinstance(look, SourceLook) and look.shape == (2, 1, 3, 5)
    assert look.max_difference() < 1e-6
    state = net.encode(source)
    for step in range(3):
        _, state, expected = net.step(state, target[:, step])
        assert expected is not None
        for batch in range(2):
            row = look.row(0, step, batch=batch)
            assert torch.allclose(row.weights, expected[batch], atol=1e-6)
            assert torch.allclose(row.head_output, expected[batch] @ look.source.states[batch], atol=1e-5)
        assert (look.row(0, step, batch=1).masked[2:] == -torch.inf).all()
    assert grid(look, 0).means.shape == (3, 5)
    with pytest.raises(RequestError, match="query 3"):
        look.row(0, 3)


def test_a_net_without_attention():
    net = RecurrentSeq2Seq(RecurrentConfig(source_vocab_size=20, target_vocab_size=20, hidden_size=8))
    assert stacks(net) == {}
