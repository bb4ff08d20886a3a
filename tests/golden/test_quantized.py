"""Quantised folders: transformers reads the same numbers; real weights lose what is stated and no more."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import ConfigError, DataError
from bloomery.engine import LanguageModel, export_model, load_language_model
from bloomery.evaluate.bits_per_byte import bits_per_byte
from bloomery.models import Decoder, ModelConfig, load_pretrained
from bloomery.models.compressed import Scheme, scheme_named, to_tensors
from bloomery.models.native import linear
from bloomery.models.native.library import library
from bloomery.models.packed import PackedLinear
from bloomery.models.packing import pack
from bloomery.models.pretrained import load_with_codes, save_pretrained, save_quantized
from bloomery.models.quantize import quantize

IDS = torch.arange(48)[None]


@pytest.fixture(scope="module")
def stories(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("llama2c", Path(__file__).with_name("llama2c.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target = tmp_path_factory.mktemp("stories260K") / "plain"
    weights = shared_data / "weights"
    module.convert_llama2c(weights / "stories260K.bin", weights / "tok512.bin", target)
    return target


def in_transformers(folder: Path, ids: torch.Tensor) -> torch.Tensor:
    """Logits of transformers with compressed-tensors, whose own deprecations are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        with torch.inference_mode():
            return model(ids).logits.float()


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def decoder(**changes: Any) -> Decoder:
    sizes: dict[str, Any] = {
        "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
    }  # fmt: skip
    torch.manual_seed(0)
    made = Decoder(ModelConfig(**{**sizes, **changes})).eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter += torch.randn_like(parameter) * 0.1
    return made


@pytest.mark.parametrize("name", ["int8", "int8-groups", "int4"])
def test_transformers_reads_real_weights_as_we_do(stories: Path, tmp_path: Path, name: str):
    folder = export_model(stories, tmp_path / name, quantize=name)
    plain = load_language_model(folder, device="cpu", weights="plain")
    theirs = in_transformers(folder, IDS)
    # In groups: the same float32 products. By channels: transformers rounds activations to 8 bits, token by token.
    assert error(theirs, plain.logits(IDS)) < (0.02 if name == "int8" else 1e-5)
    packed = load_language_model(folder, device="cpu")
    assert error(packed.logits(IDS), theirs) < 0.04  # activations in 7 bits, or in bfloat16, and the head in 8
    plain.close()
    packed.close()


@pytest.mark.parametrize(
    ("weights", "most_loss", "least_agreement"),
    [("float32", 1e-5, 0.999), ("float16", 1e-3, 0.995), ("int8", 0.01, 0.93), ("int4", 0.1, 0.8)],
)
def test_what_real_weights_lose(
    stories: Path, shared_data: Path, weights: str, most_loss: float, least_agreement: float
):
    """Bits per byte of stories that were not trained on. 64 wide, this model is the worst case of each format."""
    text = (shared_data / "tinystories" / "tinystories_valid_30KB.txt").read_text()[:3000]
    plain, packed = (load_language_model(stories, device="cpu", weights=kind) for kind in (None, weights))
    assert isinstance(plain, LanguageModel)
    loss = bits_per_byte(packed, [text]).bits_per_byte - bits_per_byte(plain, [text]).bits_per_byte
    assert loss < most_loss
    ids = plain.tokenizer.encode(text)[:512]
    agreement = (packed.logits(ids).argmax(-1) == plain.logits(ids).argmax(-1)).float().mean()
    assert float(agreement) >= least_agreement
    plain.close()
    packed.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "llama"},
        {"model_type": "qwen2", "tie_word_embeddings": True},
        {"model_type": "phi3", "hidden_act": "silu"},
        {"model_type": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    ],
    ids=lambda changes: changes["model_type"],
)
@pytest.mark.parametrize("scheme", [scheme_named("int8", 32), scheme_named("int4", 32), Scheme(8)])
def test_there_and_back(tmp_path: Path, changes: dict[str, Any], scheme: Scheme):
    """Whatever the family calls and stacks its matrices, what is read back is what packing makes of the model."""
    model = decoder(**changes)
    ignored = save_quantized(model, tmp_path, scheme)
    assert "lm_head" in ignored and not any("self_attn" in name for name in ignored)
    back, known = load_with_codes(tmp_path)
    assert len(known) == sum(name.endswith("_proj.weight") for name, _ in model.named_parameters())
    expected = decoder(**changes)
    pack(expected, scheme.format)
    pack(back, scheme.format, known=known)
    assert torch.equal(back(IDS), expected(IDS))
    outlined, known = load_with_codes(tmp_path, floats=False)
    assert sum(weight.is_meta for weight in outlined.parameters()) == len(known)
    pack(outlined, scheme.format, known=known)
    assert not any(weight.is_meta for weight in outlined.parameters())
    assert torch.equal(outlined(IDS), expected(IDS))


@pytest.mark.parametrize("name", ["int8", "int8-groups", "int4"])
def test_native_layers_of_integers_alone_are_those_of_the_whole_weights(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(linear, "is_faster", lambda kind: True)
    model = decoder(model_type="llama")
    save_quantized(model, tmp_path, scheme_named(name, 32))
    made = []
    for floats in (True, False):
        back, known = load_with_codes(tmp_path, floats=floats)
        pack(back, name[:4], known=known, make=linear.natively_packed)
        made.append(back)
    assert torch.equal(made[0](IDS), made[1](IDS))
    kinds = {type(one) for one in made[1].modules() if isinstance(one, PackedLinear)}
    assert kinds == {linear.NativeLinear} or library().calls is None


@pytest.mark.parametrize("numbers", ["equal", "other"])
def test_a_head_that_was_rounded_beside_the_embedding_that_it_should_be(tmp_path: Path, numbers: str):
    """A writer may round a tied head, too: it is compared, in one line, whether or not floats are wanted."""
    model = decoder(model_type="llama", tie_word_embeddings=True)
    rounded = quantize(model.model.embed_tokens.weight, 8)
    model.model.embed_tokens.weight.data.copy_(
        rounded.dequantized() if numbers == "equal" else rounded.dequantized() + 1
    )
    save_quantized(model, tmp_path, scheme_named("int8", 32))
    tensors = load_file(tmp_path / "model.safetensors")
    save_file(tensors | to_tensors("lm_head", rounded, torch.float32), tmp_path / "model.safetensors")
    for floats in (True, False):
        if numbers == "equal":
            load_with_codes(tmp_path, floats=floats)
        else:
            with pytest.raises(DataError, match="the two differ"):
                load_with_codes(tmp_path, floats=floats)


@pytest.mark.parametrize("asked", ["int8", "float32", "int4"])
def test_weights_that_were_left_out_are_filled_in_where_they_are_needed(tmp_path: Path, asked: str):
    """A matrix of three that share a product is float in the file; or the model is packed in another format."""
    model = decoder(model_type="llama", intermediate_size=80)
    save_quantized(model, tmp_path, scheme_named("int4", 32))
    whole, known = load_with_codes(tmp_path)
    outlined, _ = load_with_codes(tmp_path, floats=False)
    del known["model.layers.0.self_attn.q_proj"]  # as if the file had it float
    outlined.model.layers[0].self_attn.q_proj.weight = whole.model.layers[0].self_attn.q_proj.weight  # type: ignore[union-attr]
    assert pack(outlined, asked, known=known) == pack(whole, asked, known=known)
    assert torch.equal(outlined(IDS), whole(IDS))


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
def test_the_other_tensors_keep_their_type(tmp_path: Path, kind: torch.dtype):
    model = decoder(model_type="llama").to(kind)
    save_quantized(model, tmp_path, scheme_named("int4", 64), max_shard_bytes=20_000)
    assert (tmp_path / "model.safetensors.index.json").is_file()
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == str(kind).removeprefix("torch.")
    back = load_pretrained(tmp_path)
    assert torch.equal(back.model.embed_tokens.weight, model.model.embed_tokens.weight)
    # bfloat16 weights times bfloat16 scales are rounded once more by transformers, in its own type.
    theirs = in_transformers(tmp_path, IDS)
    assert error(theirs, load_pretrained(tmp_path, dtype=torch.float32)(IDS)) < (
        1e-5 if kind == torch.float32 else 0.02
    )


def test_matrices_that_groups_do_not_divide_stay_float(tmp_path: Path):
    model = decoder(model_type="llama", intermediate_size=80)
    ignored = save_quantized(model, tmp_path, scheme_named("int4", 32))
    assert [name for name in ignored if "down_proj" in name] == [f"model.layers.{n}.mlp.down_proj" for n in (0, 1)]
    assert error(in_transformers(tmp_path, IDS), load_pretrained(tmp_path)(IDS)) < 1e-5
    back, known = load_with_codes(tmp_path)
    done = pack(back, "int4", known=known)
    assert "for the file has floating-point weights" in done.fallbacks[0] and len(done.fallbacks) == 2


def test_mistakes(tmp_path: Path):
    with pytest.raises(ConfigError, match="gpt2 cannot be quantised"):
        save_quantized(
            decoder(
                model_type="gpt2", num_key_value_heads=4, attention_bias=True, mlp_bias=True, hidden_act="gelu_new",
                tie_word_embeddings=True,
            ),
            tmp_path, scheme_named("int8", 32),
        )  # fmt: skip
    model = decoder(model_type="llama")
    save_quantized(model, tmp_path, scheme_named("int8", 32))
    config = json.loads((tmp_path / "config.json").read_text())
    broken = {key: value for key, value in config.items() if key != "quantization_config"}
    (tmp_path / "config.json").write_text(json.dumps(broken))
    with pytest.raises(DataError, match="quantised weights are not supported"):
        load_pretrained(tmp_path)  # integers without a word on what they mean
    other = {**config, "model_type": "gpt2", "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4}
    keep = ("quantization_config", "model_type", "vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
    (tmp_path / "config.json").write_text(json.dumps({key: other[key] for key in keep}))
    with pytest.raises(ConfigError, match="gpt2 are not read"):
        load_pretrained(tmp_path)
    packed = decoder(model_type="llama")
    pack(packed, "int8")
    with pytest.raises(ConfigError, match="packed weights are not written"):
        save_pretrained(packed, tmp_path / "out")
    with pytest.raises(ConfigError, match="packed"):
        save_quantized(packed, tmp_path / "out", scheme_named("int8", 32))
