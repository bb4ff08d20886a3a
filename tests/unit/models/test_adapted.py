"""Rows of several adapters in one forward: each gets what it gets alone, by the formula in the open."""

from __future__ import annotations

import runpy
import threading
from pathlib import Path

import pytest
import torch

from bloomery.models import Decoder, ModelConfig, load_pretrained
from bloomery.models.adapted import AdaptedDecoder, adapted_rows, merged_weight
from bloomery.models.adapter import EMBEDDING, Adapter, LowRank, read_adapter
from bloomery.models.adapter_config import AdapterConfig

_TESTS = Path(__file__).parents[2]
make_tiny_model = runpy.run_path(str(_TESTS / "tiny_model.py"))["make_tiny_model"]
make_tiny_adapter = runpy.run_path(str(_TESTS / "tiny_adapter.py"))["make_tiny_adapter"]
PATH = "model.layers.0.mlp.down_proj"
ROWS = [0, 0, 2, 1, 2, 2, 0, 1]
"""Whose each row is; 2 is the base."""


@pytest.fixture
def decoder(tmp_path: Path) -> Decoder:
    return load_pretrained(make_tiny_model(tmp_path / "base"), dtype=torch.float32)


def _layer(outputs: int, inputs: int, rank: int, seed: int, *, dora: bool = False) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    down, up, gain = (torch.randn(s, generator=generator) for s in ((rank, inputs), (outputs, rank), (outputs,)))
    return LowRank(down, up, gain if dora else None)


def _adapter(layer: LowRank) -> Adapter:
    return Adapter("one", str(id(layer)), {PATH: layer}, AdapterConfig())


@pytest.mark.parametrize("dora", [False, True])
def test_rows_by_the_formula(decoder: Decoder, dora: bool):
    module = decoder.get_submodule(PATH)
    weight = module.weight.detach()
    layers = [_layer(*weight.shape, 3, 0), _layer(*weight.shape, 5, 1, dora=dora)]
    adapters, adapted = [_adapter(one) for one in layers], AdaptedDecoder(decoder)
    for one in adapters:
        adapted.hook(one)
    x = torch.randn(len(ROWS), weight.size(1), generator=torch.Generator().manual_seed(2))
    weights = [merged_weight(layers[0], weight), merged_weight(layers[1], weight), weight]
    expected = torch.stack([weights[whose] @ row for whose, row in zip(ROWS, x, strict=True)])
    runs = [([*adapters, None][whose], 1) for whose in ROWS]
    with torch.inference_mode(), adapted_rows(runs):
        torch.testing.assert_close(module(x[None])[0], expected, atol=1e-4, rtol=1e-4)
    with torch.inference_mode():
        assert torch.equal(module(x), x @ weight.t())


def test_a_neighbour_that_overflows_changes_nothing(decoder: Decoder):
    module = decoder.get_submodule(PATH)
    weight = module.weight.detach()
    good, huge = _layer(*weight.shape, 3, 0), _layer(*weight.shape, 3, 1)
    huge = LowRank(huge.down * 1e38, huge.up * 1e38)
    adapters, adapted = [_adapter(good), _adapter(huge)], AdaptedDecoder(decoder)
    for one in adapters:
        adapted.hook(one)
    x = torch.full((3, weight.size(1)), 100.0)
    with torch.inference_mode(), adapted_rows([(adapters[0], 1), (adapters[1], 1), (None, 1)]):
        out = module(x)
    assert not out[1].isfinite().all() and out[[0, 2]].isfinite().all()
    torch.testing.assert_close(out[2], weight @ x[2])
    torch.testing.assert_close(out[0], merged_weight(good, weight) @ x[0], rtol=1e-4, atol=1e-2)


def test_one_thread_only(decoder: Decoder, tmp_path: Path):
    """What another thread computes meanwhile is the base's."""
    adapter = read_adapter(make_tiny_adapter(tmp_path / "a", tmp_path / "base"), decoder, "a")
    AdaptedDecoder(decoder).hook(adapter)
    ids, found = torch.tensor([[5, 6, 7]]), []
    with torch.inference_mode():
        plain = decoder(ids)

    def compute() -> None:
        with torch.inference_mode():
            found.append(decoder(ids))

    with torch.inference_mode(), adapted_rows([(adapter, 3)]):
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
        assert not torch.equal(decoder(ids), plain)
    assert torch.equal(found[0], plain)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_experts(tmp_path: Path, family: str):
    """Adapters of experts: a token is another expert's row, and still its own adapter's."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": 2}
    sizes |= {"num_local_experts": 4} if family == "mixtral" else {"num_experts": 4, "moe_intermediate_size": 24}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).save_pretrained(tmp_path / "base")
    targets = ("w1", "w2", "q_proj") if family == "mixtral" else ("gate_proj", "down_proj", "q_proj")
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    adapted, ids = AdaptedDecoder(decoder), torch.arange(20)[None]
    adapters, expected = [], []
    for seed in range(2):
        folder = make_tiny_adapter(tmp_path / str(seed), tmp_path / "base", seed=seed, targets=targets)
        adapters.append(read_adapter(folder, decoder, str(seed)))
        adapted.hook(adapters[-1])
        adapted.merge(adapters[-1])  # another way to the same
        with torch.inference_mode():
            expected.append(decoder(ids))
        adapted.unmerge()
    with torch.inference_mode():
        expected.append(decoder(ids))
        with adapted_rows([(adapters[0], 20), (adapters[1], 20), (None, 20)]):
            together = decoder(ids.expand(3, -1))
    for mine, alone in zip(together, expected, strict=True):
        torch.testing.assert_close(mine, alone[0], atol=1e-4, rtol=1e-4)
    assert (together[0] - together[2]).abs().max() > 1e-3


def test_embeddings_of_several(tmp_path: Path):
    """Ids stand for their rows: what a merge into an embedding of its own gives."""
    config = ModelConfig.from_hf({"model_type": "llama", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1}
        | {"num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32})  # fmt: skip
    torch.manual_seed(0)
    decoder = Decoder(config).eval().requires_grad_(False)
    adapted, ids, expected = AdaptedDecoder(decoder), torch.arange(10)[None], []
    layers = [_layer(16, 40, rank, rank) for rank in (2, 3)]
    adapters = [Adapter(str(n), str(n), {EMBEDDING: one}, AdapterConfig()) for n, one in enumerate(layers)]
    before = decoder.model.embed_tokens.weight.clone()
    for one in adapters:
        adapted.hook(one)
        adapted.merge(one)
        expected.append(decoder(ids)[0])
        adapted.unmerge()
    assert torch.equal(decoder.model.embed_tokens.weight, before)
    with adapted_rows([(adapters[0], 10), (None, 10), (adapters[1], 10)]):
        found = decoder(ids.expand(3, -1))
    for mine, due in zip(found, [expected[0], decoder(ids)[0], expected[1]], strict=True):
        torch.testing.assert_close(mine, due, atol=1e-5, rtol=1e-5)


def test_a_merge_that_fails_leaves_the_weights_as_they_were(decoder: Decoder, monkeypatch: pytest.MonkeyPatch):
    paths = [PATH, PATH.replace("down", "up")]
    layers = {path: _layer(*decoder.get_submodule(path).weight.shape, 3, 0) for path in paths}
    before = [decoder.get_submodule(path).weight for path in paths]
    adapted, made = AdaptedDecoder(decoder), []

    def fails_the_second_time(layer: LowRank, weight: torch.Tensor) -> torch.Tensor:
        made.append(layer)
        if len(made) == 2:
            raise MemoryError
        return merged_weight(layer, weight)

    monkeypatch.setattr("bloomery.models.adapted.merged_weight", fails_the_second_time)
    with pytest.raises(MemoryError):
        adapted.merge(Adapter("one", "1", layers, AdapterConfig()))
    assert adapted.merged is None
    assert all(decoder.get_submodule(path).weight is weight for path, weight in zip(paths, before, strict=True))
