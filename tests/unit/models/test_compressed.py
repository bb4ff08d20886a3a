"""Quantised weights in files: against compressed-tensors itself, and against files that nobody should trust."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.core.errors import ConfigError, DataError
from bloomery.models.compressed import (
    KEY,
    Reader,
    Scheme,
    pack_codes,
    scheme_named,
    scheme_of,
    to_tensors,
    unpack_codes,
)
from bloomery.models.quantize import quantize

IN_WORDS = [Scheme(8, 32, in_words=True), Scheme(8, in_words=True), Scheme(8, None, True, in_words=True)]


@pytest.mark.parametrize("inputs", [8, 96, 172, 5])
@pytest.mark.parametrize("bits", [4, 8])
def test_codes_in_words_lie_as_compressed_tensors_lays_them(inputs: int, bits: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
    most, generator = 1 << (bits - 1), torch.Generator().manual_seed(0)
    codes = torch.randint(-most, most, (7, inputs), generator=generator, dtype=torch.int8)
    words = pack_codes(codes, bits)
    assert torch.equal(unpack_codes(words, inputs, bits), codes)
    assert torch.equal(words, pack_to_int32(codes, bits))
    assert torch.equal(unpack_from_int32(words, bits, torch.Size([7, inputs])), codes)


@pytest.mark.parametrize(("name", "size"), [("int8", 32), ("int8-groups", 64), ("int4", 32), ("int4", 128)])
def test_schemes_are_stated_so_that_the_library_reads_them(name: str, size: int):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from compressed_tensors.quantization import QuantizationConfig
    scheme = scheme_named(name, size)
    document = scheme.to_hf(["lm_head"])
    assert scheme_of({KEY: document}) == scheme and scheme.format == name[:4]
    theirs = QuantizationConfig(**document)
    weights = theirs.config_groups["group_0"].weights  # type: ignore[union-attr]
    assert weights is not None and weights.num_bits == int(name[3]) and weights.symmetric
    assert (weights.group_size, weights.strategy) == ((None, "channel") if name == "int8" else (size, "group"))
    assert theirs.ignore == ["lm_head"] and theirs.quantization_status == "compressed"


@pytest.mark.parametrize("scheme", [Scheme(8, None, True), Scheme(8), Scheme(8, 32), *IN_WORDS, Scheme(4, 32)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_there_and_back(scheme: Scheme, kind: torch.dtype):
    weight = quantize(torch.randn(24, 64), scheme.bits, scheme.group_size)
    reader = Reader(scheme)
    found: list[tuple[str, torch.Tensor]] = []
    assert scheme_of({KEY: scheme.to_hf([])}) == scheme
    for name, tensor in sorted(to_tensors("model.x", weight, kind, in_words=scheme.in_words).items()):
        found += reader.take(name, tensor)
    assert reader.take("model.norm.weight", torch.ones(3))[0][0] == "model.norm.weight"
    reader.finish()
    assert [name for name, _ in found] == ["model.x.weight"]
    assert torch.equal(found[0][1], weight.dequantized())
    known = reader.known["model.x.weight"]
    assert torch.equal(known.codes, weight.codes) and torch.equal(known.scale, weight.scale)


def test_eight_bits_in_groups_are_what_the_library_decompresses():
    """It computes the weights of both layouts from our tensors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
        from compressed_tensors.quantization import QuantizationArgs
        from compressed_tensors.quantization.lifecycle.forward import dequantize
    weight = quantize(torch.randn(24, 64), 8, 32)
    made = to_tensors("x", weight, torch.float32, in_words=True)
    codes = unpack_from_int32(made["x.weight_packed"], 8, torch.Size(made["x.weight_shape"].tolist()))
    arguments = QuantizationArgs(**Scheme(8, 32).to_hf([])["config_groups"]["group_0"]["weights"])
    for one in (codes, to_tensors("x", weight, torch.float32)["x.weight"]):
        theirs = dequantize(one, made["x.weight_scale"], args=arguments)
        assert torch.equal(theirs, weight.dequantized())


def changed(**changes: Any) -> dict[str, Any]:
    document = Scheme(4, 32).to_hf([])
    group = document["config_groups"]["group_0"]
    for key, value in changes.items():
        where = document if key in document else group if key in group else group["weights"]
        where[key] = value
    return {KEY: document}


@pytest.mark.parametrize(
    "changes",
    [
        {"quant_method": "gptq"},
        {"format": "marlin-24"},
        {"num_bits": 3},
        {"symmetric": False},
        {"type": "float"},
        {"strategy": "block"},
        {"group_size": -1},
        {"group_size": True},
        {"actorder": "group"},
        {"targets": ["re:.*"]},
        {"output_activations": {"num_bits": 8}},
        {"input_activations": {"num_bits": 8, "dynamic": False, "strategy": "tensor"}},
        {"input_activations": 8},
        {"kv_cache_scheme": {"num_bits": 8}},
        {"config_groups": {}},
        {"config_groups": {"group_0": None}},
        {"weights": None},
    ],
)
def test_what_is_not_read_is_said(changes: dict[str, Any]):
    with pytest.raises(ConfigError, match="states a quantisation that is not read"):
        scheme_of(changed(**changes))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | st.floats(allow_nan=False) | st.sampled_from(["int", "token"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["num_bits", "weights"]), inner),
    max_leaves=6,
)


@given(where=st.sampled_from([*changed()[KEY], "targets", "weights", "num_bits", "strategy", "group_size"]), what=JSON)
@settings(max_examples=200, deadline=None)
def test_any_other_value_is_read_or_refused(where: str, what: Any):
    try:
        scheme = scheme_of(changed(**{where: what}))
    except ConfigError:
        return
    assert scheme is not None and scheme.bits in (4, 8)


def test_other_documents():
    assert scheme_of({}) is None and scheme_of(changed()) == Scheme(4, 32)
    with pytest.raises(ConfigError, match="not read"):
        scheme_of({KEY: "int4"})
    with pytest.raises(ConfigError, match="int5"):
        scheme_named("int5", 32)
    for name in ("int4", "int8-groups"):
        with pytest.raises(ConfigError, match="groups of 48"):
            scheme_named(name, 48)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("weight_scale", torch.ones(24, 3)),
        ("weight_scale", torch.ones(24)),
        ("weight_scale", torch.full((24, 2), torch.inf)),
        ("weight_scale", torch.ones(24, 2, dtype=torch.int32)),
        ("weight_packed", torch.zeros(24, 8, dtype=torch.int64)),
        ("weight_packed", torch.zeros(24, 9, dtype=torch.int32)),
        ("weight_packed", torch.zeros(24 * 8, dtype=torch.int32)),
        ("weight_shape", torch.tensor([24, 1 << 40])),
        ("weight_shape", torch.tensor([-24, -64])),
        ("weight_shape", torch.tensor([24.0, 64.0])),
        ("weight_shape", torch.tensor([24])),
        ("weight_zero_point", torch.zeros(24, 2, dtype=torch.int32)),
        ("weight", torch.zeros(24, 64, dtype=torch.int8)),
    ],
)
def test_damaged_files(name: str, tensor: torch.Tensor):
    parts = to_tensors("x", quantize(torch.randn(24, 64), 4, 32), torch.float32) | {f"x.{name}": tensor}
    reader = Reader(Scheme(4, 32))
    with pytest.raises(DataError, match="x"):
        for key, value in parts.items():
            reader.take(key, value)
        reader.finish()


def test_a_part_that_is_missing():
    reader = Reader(Scheme(8))
    reader.take("x.weight", torch.zeros(4, 8, dtype=torch.int8))
    with pytest.raises(DataError, match="x has only weight"):
        reader.finish()
