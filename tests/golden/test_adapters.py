"""LoRA adapters against the `peft` library: every kind of family, logits within 1e-4 in float32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import DataError
from bloomery.models import Decoder, load_pretrained
from bloomery.models.adapted import AdaptedDecoder, adapted_rows
from bloomery.models.adapter import read_adapter
from bloomery.models.packing import pack
from bloomery.models.vision_language import load_vision_language

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks transformers so
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
]
BASE: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SIZES = ("vocab_size", "bos_token_id", "eos_token_id")
SHAPES: dict[str, dict[str, Any]] = {
    "llama": BASE,
    "mistral": {**BASE, "sliding_window": 9},
    "qwen2": {**BASE, "tie_word_embeddings": True},
    "qwen3": {**BASE, "head_dim": 16},
    "gemma2": {**BASE, "head_dim": 16, "sliding_window": 9, "query_pre_attn_scalar": 24},
    "gemma3_text": {**BASE, "head_dim": 16, "sliding_window": 9, "query_pre_attn_scalar": 24},
    "smollm3": {**BASE, "pad_token_id": 0},
    "olmo2": BASE,
    "phi3": {**BASE, "pad_token_id": 0},
    "gpt2": {**{k: BASE[k] for k in _SIZES}, "n_positions": 96, "n_embd": 64, "n_layer": 2, "n_head": 4},
    "gpt_neox": {k: v for k, v in BASE.items() if k != "num_key_value_heads"},
    "bloom": {**{k: BASE[k] for k in (*_SIZES, "hidden_size")}, "n_layer": 2, "n_head": 8, "seq_length": 96},
    "mixtral": {**BASE, "num_local_experts": 4},
    "qwen3_moe": {**BASE, "head_dim": 16, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40},
}
# What is adapted: attention alone where transformers keeps experts in one tensor, which is no linear layer.
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
SPARSE = ("mixtral", "qwen3_moe")
TARGETS: dict[str, Any] = {family: "all-linear" for family in SHAPES if family not in SPARSE}
TARGETS |= dict.fromkeys(SPARSE, ATTENTION)


def _base(family: str, folder: Path, seed: int = 0) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **SHAPES[family])
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.08))
    model.save_pretrained(folder)
    return model


def _adapter(model: Any, folder: Path, seed: int = 1, **how: Any) -> Any:
    """A PEFT model with random matrices, saved."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **how)).eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_magnitude" in name:
                parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
            elif "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.2)
    tuned.save_pretrained(folder, save_embedding_layers=False)
    return tuned


def _ids(seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 131, (2, 23), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def _logits(decoder: Decoder, folder: Path) -> torch.Tensor:
    adapter = read_adapter(folder, decoder, "one")
    AdaptedDecoder(decoder).hook(adapter)
    plain = decoder(_ids())
    with adapted_rows([(adapter, 46)]):
        adapted = decoder(_ids())
    assert torch.equal(decoder(_ids()), plain)  # nothing is left of it
    assert (adapted - plain).abs().max() > 0.01  # it does something
    return adapted


def _compare(tmp_path: Path, family: str, **how: Any) -> None:
    tuned = _adapter(_base(family, tmp_path / "base"), tmp_path / "adapter", **how)
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    with torch.inference_mode():
        expected = tuned(_ids()).logits
    # Sums of a few hundred products in float32, in another order: 1e-5 of logits of size 10.
    torch.testing.assert_close(_logits(decoder, tmp_path / "adapter"), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", sorted(SHAPES))
def test_logits(tmp_path: Path, family: str) -> None:
    _compare(tmp_path, family, r=8, lora_alpha=16, target_modules=TARGETS[family])


@pytest.mark.parametrize("family", ["llama", "gpt2", "gpt_neox", "phi3", "qwen2"])
def test_dora(tmp_path: Path, family: str) -> None:
    _compare(tmp_path, family, r=4, lora_alpha=8, use_dora=True, target_modules=TARGETS[family])


KINDS: dict[str, dict[str, Any]] = {
    "two layers' names": {"target_modules": ["q_proj", "v_proj"]},
    "a pattern": {"target_modules": r".*\.(self_attn\.[qk]|mlp\.down)_proj"},
    "rank-stabilised": {"target_modules": "all-linear", "use_rslora": True, "lora_alpha": 5},
    "one layer": {"target_modules": ["q_proj", "up_proj"], "layers_to_transform": 1},
    "listed layers": {"target_modules": ["q_proj"], "layers_to_transform": [0], "layers_pattern": "layers"},
    "some left out": {"target_modules": "all-linear", "exclude_modules": ["k_proj", "gate_proj"]},
    "left out by a pattern": {"target_modules": "all-linear", "exclude_modules": r"model\.layers\.0\..*"},
    "ranks of their own": {
        "target_modules": "all-linear",
        "rank_pattern": {"q_proj": 16, "layers.1.mlp.up_proj": 2, r"model\.layers\.\d\.self_attn\.o_proj": 3},
        "alpha_pattern": {"q_proj": 4, r".*down_proj": 32},
    },
    "the output head": {"target_modules": ["lm_head", "q_proj"]},
    "another start": {"target_modules": ["q_proj"], "init_lora_weights": "gaussian", "lora_dropout": 0.5},
    "rank above the width": {"target_modules": ["k_proj"], "r": 80},
}


@pytest.mark.parametrize("kind", KINDS)
def test_config(tmp_path: Path, kind: str) -> None:
    _compare(tmp_path, "llama", **{"r": 4, "lora_alpha": 8, **KINDS[kind]})


@pytest.mark.parametrize("how", [{"target_modules": ["c_attn"]}, {"target_modules": ["lm_head"]}])
def test_gpt2(tmp_path: Path, how: dict[str, Any]) -> None:
    """Matrices the other way round, and an output head that is the embedding."""
    if "lm_head" in how["target_modules"]:
        with pytest.warns(UserWarning, match="tie"):
            _compare(tmp_path, "gpt2", r=4, **how)
    else:
        _compare(tmp_path, "gpt2", r=4, fan_in_fan_out=True, **how)


@pytest.mark.parametrize(
    ("family", "name"), [("llama", "embed_tokens"), ("gemma3_text", "embed_tokens"), ("gpt2", "wte")]
)
def test_embeddings(tmp_path: Path, family: str, name: str):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tie.*", category=UserWarning)
        _compare(tmp_path, family, r=4, target_modules=[name, "c_attn" if family == "gpt2" else "q_proj"])


def test_merged(tmp_path: Path) -> None:
    """Merged weights compute the same, and are gone without a trace."""
    for family, dora in (("llama", False), ("phi3", True), ("gpt2", True)):
        folder = tmp_path / family
        tuned = _adapter(_base(family, folder / "base"), folder / "a", target_modules=TARGETS[family], use_dora=dora)
        decoder = load_pretrained(folder / "base", dtype=torch.float32)
        adapted, before = AdaptedDecoder(decoder), {n: p.clone() for n, p in decoder.named_parameters()}
        adapted.merge(read_adapter(folder / "a", decoder, "one"))
        with torch.inference_mode():
            expected = tuned.merge_and_unload()(_ids()).logits
            torch.testing.assert_close(decoder(_ids()), expected, atol=1e-4, rtol=1e-4)
        adapted.unmerge()
        assert all(torch.equal(before[name], parameter) for name, parameter in decoder.named_parameters())


@pytest.mark.parametrize("kind", ["float32", "float16", "int8", "int8-weight-only", "int4"])
@pytest.mark.parametrize("dora", [False, True])
def test_packed(tmp_path: Path, kind: str, dora: bool) -> None:
    """On packed weights: as far from peft as the packed base is from the plain one, and no farther."""
    base = _base("qwen2", tmp_path / "base")
    with torch.inference_mode():
        plain = base(_ids()).logits
    tuned = _adapter(base, tmp_path / "a", target_modules="all-linear", use_dora=dora)
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    pack(decoder, kind)
    with torch.inference_mode():
        expected = tuned(_ids()).logits
        own = (decoder(_ids()) - plain).norm() / plain.norm()
    error = (_logits(decoder, tmp_path / "a") - expected).norm() / expected.norm()
    # The rounded weights go through other activations, larger for these adapters; twice is far below a mistake.
    assert error < max(1e-5, 2 * own)


@pytest.mark.parametrize("target", [r".*language_model.*\.(q|v)_proj", ["up_proj", "down_proj"]])
def test_the_language_model_of_a_larger_one(tmp_path: Path, target: Any):
    """LLaVA: layers are named under "language_model"; those of its image encoder are not read."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    text = {**BASE, "model_type": "llama"}
    vision = {"model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    base = LlavaForConditionalGeneration(LlavaConfig(text_config=text, vision_config=vision, image_token_index=130))
    base.save_pretrained(tmp_path / "base")
    tuned = _adapter(base.eval(), tmp_path / "a", target_modules=target)
    decoder = load_vision_language(tmp_path / "base", dtype=torch.float32).language_model
    adapter = read_adapter(tmp_path / "a", decoder, "a", inside=True)
    AdaptedDecoder(decoder).hook(adapter)
    ids = _ids().clamp_max(129)
    with torch.inference_mode(), adapted_rows([(adapter, 1)]):
        torch.testing.assert_close(decoder(ids), tuned(input_ids=ids).logits, atol=1e-4, rtol=1e-4)
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "base")
    _adapter(again, tmp_path / "b", target_modules=["q_proj"])
    with pytest.raises(DataError, match=r"no such layer 'model\.vision_tower"):
        read_adapter(tmp_path / "b", decoder, "b", inside=True)
