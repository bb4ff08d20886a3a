"""Packing whole models: the same results within what a format explains, whatever parts the model has."""

from __future__ import annotations

import copy
import logging
import threading
from typing import Any

import pytest
import torch
from torch import nn

from bloomery.core.errors import ConfigError, DeviceError
from bloomery.models import Decoder, KVCache, ModelConfig
from bloomery.models import packed as packed_module
from bloomery.models.attention import Attention
from bloomery.models.encoder import Encoder
from bloomery.models.encoder_config import EncoderConfig
from bloomery.models.packed import CPU_FORMATS, Float16Linear, PackedLinear
from bloomery.models.packing import Part, PlainLinear, linear_layers, pack, packing_of

# Relative errors of the logits of two random layers: what a format's weights and activations are rounded by, with
# room for their way through the layers.
LOGITS_ERROR = {"float32": 1e-5, "float16": 2e-3, "int8": 0.08, "int8-weight-only": 0.05, "int4": 0.35}
FAMILIES: list[dict[str, Any]] = [
    {"model_type": "llama"},
    {"model_type": "llama", "tie_word_embeddings": True},
    {"model_type": "qwen3", "tie_word_embeddings": True},
    {"model_type": "qwen2", "attention_bias": True},
    {"model_type": "gemma2", "tie_word_embeddings": True, "query_pre_attn_scalar": 16},
    {"model_type": "gpt2", "tie_word_embeddings": True, "num_key_value_heads": 4, "hidden_act": "gelu_new"},
    {"model_type": "mixtral", "num_experts": 4, "num_experts_per_tok": 2},
]


def decoder(**changes: Any) -> Decoder:
    config: dict[str, Any] = {
        "vocab_size": 96,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 64,
    }
    values = {**config, **changes}
    if values.get("model_type") == "gpt2":
        values |= {"attention_bias": True, "mlp_bias": True}
    if values.get("model_type") == "mixtral":
        values["norm_topk_prob"] = True
    torch.manual_seed(0)
    made = Decoder(ModelConfig(**values)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter += torch.randn(parameter.shape, generator=generator) * 0.1
    return made


def ids(batch: int = 2, length: int = 24) -> torch.Tensor:
    return torch.randint(0, 96, (batch, length), generator=torch.Generator().manual_seed(1))


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("kind", CPU_FORMATS)
@pytest.mark.parametrize("changes", FAMILIES, ids=lambda c: "-".join(map(str, list(c.values())[:2])))
def test_logits_are_those_of_the_plain_model(kind: str, changes: dict[str, Any]):
    plain = decoder(**changes)
    packed = copy.deepcopy(plain)
    done = pack(packed, kind)
    assert done.format == kind and not done.fallbacks and done == packing_of(packed)
    more = 3 if packed.config.num_experts else 1  # a router that is nearly undecided sends a token elsewhere
    assert packing_of(plain) is None
    with torch.inference_mode():
        whole = packed(ids())
        assert error(whole, plain(ids())) <= more * LOGITS_ERROR[kind]
        cache, parts = KVCache(packed.config, 2, 24), []
        for start, stop in ((0, 10), (10, 11), (11, 24)):
            parts.append(packed(ids()[:, start:stop], cache=cache))
        # Cached steps see other numbers of rows, for which the bfloat16 kernels may be another.
        assert error(torch.cat(parts, dim=1), whole) <= (1e-5 if kind in ("float32", "float16") else more * 0.03)
        assert error(packed(ids(), last_only=True), whole[:, -1:]) <= (
            1e-5 if kind != "int8-weight-only" else more * 0.01
        )


def test_products_of_one_input_are_made_once():
    model = decoder()
    pack(model, "float16")
    layer = model.model.layers[0]
    parts = [getattr(layer.self_attn, name) for name in ("q_proj", "k_proj", "v_proj")]
    assert all(isinstance(part, Part) for part in parts) and len({id(part.joint) for part in parts}) == 1
    calls = []
    matrices = {id(m): m for m in model.modules() if isinstance(m, PackedLinear)}.values()
    for matrix in matrices:
        matrix.register_forward_hook(lambda *_: calls.append(1))
    model(ids())
    assert len(calls) == len(matrices) == 2 * 4 + 1  # queries with keys and values, o, gate with up, down; the head
    assert not isinstance(model.lm_head, nn.Linear)


def test_parts_know_their_own_weights():
    plain = decoder(model_type="qwen2", attention_bias=True)
    packed = copy.deepcopy(plain)
    pack(packed, "float32")
    for name in ("q_proj", "k_proj", "v_proj"):
        one, other = (getattr(m.model.layers[1].self_attn, name) for m in (plain, packed))
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)
    assert torch.equal(packed.output_weight, plain.output_weight)


def test_a_part_asked_alone_or_with_another_input():
    plain, packed = decoder(), decoder()
    pack(packed, "float32")
    one, other = (m.model.layers[0].self_attn for m in (plain, packed))
    x, y = torch.randn(1, 3, 64), torch.randn(1, 3, 64)
    for name, value in [("q_proj", x), ("v_proj", y), ("k_proj", x), ("v_proj", x), ("k_proj", y), ("q_proj", y)]:
        assert torch.allclose(getattr(one, name)(value), getattr(other, name)(value), atol=1e-5)
    x.mul_(2)  # the first part never takes what was kept
    assert torch.allclose(one.q_proj(x), other.q_proj(x), atol=1e-5)


def test_threads_do_not_disturb_each_other():
    plain, packed = decoder(), decoder()
    pack(packed, "float32")
    rows = [ids(1, 8), ids(2, 24)[1:], ids(1, 16)]
    expected = [plain(row) for row in rows]
    wrong: list[float] = []

    def work(number: int) -> None:
        for _ in range(20):
            with torch.inference_mode():
                wrong.append(error(packed(rows[number]), expected[number]))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 60 and max(wrong) < 1e-5


def test_keys_and_values_of_another_sequence_have_a_product_of_their_own():
    class Crossed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.self_attn = Attention(hidden_size=32, num_heads=2, head_dim=16)
            self.cross_attn = Attention(hidden_size=32, num_heads=2, head_dim=16)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.cross_attn(self.self_attn(x), memory=self.cross_attn.keys_values(y, None))

    plain = Crossed().requires_grad_(False)
    packed = copy.deepcopy(plain)
    pack(packed, "float32")
    assert isinstance(packed.self_attn.q_proj, Part) and not isinstance(packed.cross_attn.q_proj, Part)
    x, y = torch.randn(1, 3, 32), torch.randn(1, 5, 32)
    assert torch.allclose(packed(x, y), plain(x, y), atol=1e-5)


def test_an_encoder():
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = EncoderConfig.from_hf({"model_type": "bert", "vocab_size": 96, "max_position_embeddings": 32, **sizes})
    torch.manual_seed(0)
    plain = Encoder(config).eval().requires_grad_(False)
    for parameter in plain.parameters():
        parameter += torch.randn_like(parameter) * 0.05
    packed = copy.deepcopy(plain)
    assert pack(packed, "int8").matrices >= 8
    mask = torch.ones(2, 24, dtype=torch.bool)
    got, expected = (m.hidden_states(ids(), mask) for m in (packed, plain))
    assert error(got, expected) < 0.08


def test_a_router_stays_as_it_is():
    model = decoder(model_type="mixtral", num_experts=4, num_experts_per_tok=2)
    assert not any(path.endswith("mlp.gate") for path, *_ in linear_layers(model))
    pack(model, "int4")
    assert type(model.model.layers[0].mlp.gate) is nn.Linear  # type: ignore[union-attr]


def test_the_head_of_four_bits_has_eight():
    model = decoder(tie_word_embeddings=True)
    pack(model, "int4")
    assert isinstance(model.packed_head, PackedLinear) and model.packed_head.format == "int8"
    assert model.model.embed_tokens.weight.dtype == torch.float32
    model = decoder(tie_word_embeddings=True)
    pack(model, "int4", head="float16")
    assert isinstance(model.packed_head, Float16Linear)


def test_a_broken_operator_gives_way_and_says_so(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    plain, packed = decoder(), decoder()
    monkeypatch.setattr(Float16Linear, "forward", lambda self, x: torch.empty(*x.shape[:-1], self.out_features))
    with caplog.at_level(logging.WARNING, "bloomery.models"):
        done = pack(packed, "float16")
    assert done.format == "float16" and done.matrices == 0 and len(done.fallbacks) == 9
    assert "float32 instead of float16" in done.fallbacks[0] and "the operator" in done.fallbacks[0]
    assert "9 x float32 instead of float16" in caplog.text or "float32 instead of float16" in caplog.text
    assert error(packed(ids()), plain(ids())) < 1e-5
    assert done.to_dict()["fallbacks"] == list(done.fallbacks)


def test_where_no_operator_works_the_layers_are_plain(monkeypatch: pytest.MonkeyPatch):
    plain, packed = decoder(), decoder()

    def gone(*arguments: Any, **options: Any) -> PackedLinear:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_linear_weight'")

    monkeypatch.setattr("bloomery.models.packing.packed", gone)
    done = pack(packed, "int8")
    assert done.matrices == 0 and "plain float32 instead of int8" in done.fallbacks[0]
    assert sum(isinstance(m, PlainLinear) for m in packed.modules()) == 9
    assert error(packed(ids()), plain(ids())) < 1e-6
    with pytest.raises(ConfigError, match="cannot be trained"):
        packed.train()


def test_shapes_that_a_format_cannot_have():
    model = decoder(intermediate_size=80)
    done = pack(model, "int4")
    assert any("down_proj: float32 instead of int4 (groups of 32 do not divide 80 inputs)" in f for f in done.fallbacks)
    assert done.matrices == 9 - len(done.fallbacks) == 7


def test_mistakes():
    model = decoder()
    with pytest.raises(ConfigError, match="cannot be packed as 'int9'"):
        pack(model, "int9")
    with pytest.raises(ConfigError, match=r"float32, not torch\.bfloat16"):
        pack(decoder().to(torch.bfloat16), "int8")
    pack(model, "float16")
    with pytest.raises(ConfigError, match="packed already"):
        pack(model, "float16")
    with pytest.raises(ConfigError, match="cannot be trained") as caught:
        model.train()
    assert "\n" not in caught.value.one_line()
    assert issubclass(DeviceError, Exception) and packed_module.CPU_FORMATS == CPU_FORMATS
