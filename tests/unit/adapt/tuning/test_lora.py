"""LoRA layers against the `peft` library: initial values, losses step by step, merging, several at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bloomery.adapt.tuning.adapter_files import load_adapter, save_adapter
from bloomery.adapt.tuning.lora import add_lora, layout_of, merge, remove_lora, sets_of, trainable, unmerge, use
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.errors import ConfigError
from bloomery.models import Decoder, load_pretrained, save_pretrained
from bloomery.models.adapted import AdaptedDecoder, adapted_rows
from bloomery.models.adapter import read_adapter
from bloomery.models.four_bit import to_four_bits

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),  # peft asks transformers so
    pytest.mark.filterwarnings("ignore:.*fan_in_fan_out.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
]
BASE: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": BASE,
    "qwen3": {**BASE, "head_dim": 8, "tie_word_embeddings": True},
    "qwen2": {**BASE, "tie_word_embeddings": True},
    "phi3": {**BASE, "pad_token_id": 0},
    "gpt2": {"vocab_size": 61, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    | {"bos_token_id": 1, "eos_token_id": 2, "attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "gpt_neox": {k: v for k, v in BASE.items() if k != "num_key_value_heads"},
}
STEPS = 4


def _base(family: str, folder: Path, **changes: int) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**SHAPES[family], **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.08)
    model.save_pretrained(folder)
    return model


def _batch(step: int) -> torch.Tensor:
    return torch.randint(3, 61, (3, 17), generator=torch.Generator().manual_seed(step))


def _loss(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten())


def _trained(model: Any, parameters: list[Any], logits: Any) -> list[float]:
    optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.01)
    losses = []
    for step in range(STEPS):
        ids = _batch(step)
        loss = _loss(logits(ids), ids)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def _fuzzed(parameters: list[torch.nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True, "lora_alpha": 5},
    "DoRA": {"use_dora": True},
    "ranks of their own": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"o_proj": 9}},
    "embedding and head": {"target_modules": ["q_proj", "embed_tokens", "lm_head"]},
}
CASES = [(family, kind) for family in SHAPES for kind in ("plain", "DoRA")]
CASES += [("llama", kind) for kind in KINDS if kind not in ("plain", "DoRA")] + [("qwen3", "embedding and head")]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_trains_as_peft_does(tmp_path: Path, family: str, kind: str):
    """The same initial adapter, batches and AdamW: the same losses, and each reads the other's files."""
    from peft import LoraConfig as PeftConfig
    from peft import PeftModel, get_peft_model

    options = {"target_modules": "all-linear", "r": 4, "lora_alpha": 8, **KINDS[kind]}
    torch.manual_seed(1)
    theirs = get_peft_model(_base(family, tmp_path / "base"), PeftConfig(task_type="CAUSAL_LM", **options))
    theirs.save_pretrained(tmp_path / "first", save_embedding_layers=False)
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    parameters = load_adapter(decoder, tmp_path / "first")
    assert sum(p.numel() for p in parameters) == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    expected = _trained(theirs, [p for p in theirs.parameters() if p.requires_grad], lambda ids: theirs(ids).logits)
    losses = _trained(decoder, parameters, decoder)
    assert losses == pytest.approx(expected, abs=1e-5)
    assert losses[-1] != pytest.approx(losses[0], abs=1e-3)
    logits = decoder(_batch(9)).detach()
    torch.testing.assert_close(logits, theirs(_batch(9)).logits.detach(), atol=1e-4, rtol=1e-4)

    save_adapter(decoder, tmp_path / "ours", base=str(tmp_path / "base"))
    again = PeftModel.from_pretrained(_base(family, tmp_path / "base"), tmp_path / "ours").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(_batch(9)).logits, logits, atol=1e-5, rtol=1e-5)
    _served(tmp_path, logits)


def _served(tmp_path: Path, logits: torch.Tensor) -> None:
    """The engine's way of reading and computing gives the same."""
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    adapter = read_adapter(tmp_path / "ours", decoder, "ours")
    AdaptedDecoder(decoder).hook(adapter)
    with torch.inference_mode(), adapted_rows([(adapter, 1)]):
        torch.testing.assert_close(decoder(_batch(9)), logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_is_peft_s(tmp_path: Path, dora: bool):
    """In training, the same generator drops the same inputs: where nothing is fused it is asked in the same order."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    options: dict[str, Any] = {"r": 4, "lora_dropout": 0.3, "use_dora": dora, "target_modules": ["q_proj", "up_proj"]}
    theirs = get_peft_model(_base("llama", tmp_path / "base"), PeftConfig(task_type="CAUSAL_LM", **options)).train()
    theirs.save_pretrained(tmp_path / "first")
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    load_adapter(decoder, tmp_path / "first", lora_dropout=0.3)
    losses = []
    for model, logits in ((theirs, lambda ids: theirs(ids).logits), (decoder.train(), decoder)):
        torch.manual_seed(5)
        losses.append(_trained(model, [p for p in model.parameters() if p.requires_grad], logits))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.fixture
def decoder(tmp_path: Path) -> Decoder:
    _base("llama", tmp_path / "base")
    return load_pretrained(tmp_path / "base", dtype=torch.float32)


def test_initial_values(decoder: Decoder):
    """As PEFT draws them: A Kaiming-uniform (bound 1 / sqrt(I)), B zero; an embedding's A zero, B normal."""
    before = decoder(_batch(0)).detach()
    parameters = add_lora(decoder, LoraConfig(target_modules=("q_proj", "embed_tokens"), r=16))
    assert torch.equal(decoder(_batch(0)), before)
    layers = sets_of(decoder).layers("default")  # type: ignore[union-attr]
    q = layers["model.layers.0.self_attn.q_proj"]
    assert not q.lora_B.any() and 0.9 / 32**0.5 < float(q.lora_A.detach().abs().max()) <= 1 / 32**0.5
    embedding = layers["model.embed_tokens"]
    assert not embedding.lora_A.any() and 0.8 < float(embedding.lora_B.detach().std()) < 1.2
    assert {id(p) for p in trainable(decoder).values()} == {id(p) for p in parameters}
    assert all(name.startswith("lora.") for name in trainable(decoder))


@pytest.mark.parametrize("dora", [False, True])
def test_merge_and_unmerge(decoder: Decoder, dora: bool):
    _fuzzed(add_lora(decoder, LoraConfig(r=4, use_dora=dora, target_modules=("all-linear",))))
    weights = {name: p.detach().clone() for name, p in decoder.named_parameters()}
    adapted = decoder(_batch(0)).detach()
    merge(decoder)
    with pytest.raises(ConfigError, match="merged already"):
        merge(decoder)
    torch.testing.assert_close(decoder(_batch(0)), adapted, atol=1e-5, rtol=1e-5)
    unmerge(decoder)
    assert all(torch.equal(p, weights[name]) for name, p in decoder.named_parameters())
    assert torch.equal(decoder(_batch(0)), adapted)
    merge(decoder)
    remove_lora(decoder)
    assert not [name for name in decoder.state_dict() if "lora" in name]
    torch.testing.assert_close(decoder(_batch(0)), adapted, atol=1e-5, rtol=1e-5)


def test_several_at_once(decoder: Decoder):
    """Two adapters are summed in what they add to a layer, and each can be had alone."""
    plain = decoder(_batch(0)).detach()
    one = add_lora(decoder, LoraConfig(r=2, target_modules=("lm_head",)), name="one")
    _fuzzed(one)
    first = decoder(_batch(0)).detach()
    two = add_lora(decoder, LoraConfig(r=3, target_modules=("lm_head",)), name="two")
    assert not any(p.requires_grad for p in one) and all(p.requires_grad for p in two)
    _fuzzed(two)
    second = decoder(_batch(0)).detach()
    use(decoder, "one", "two")
    torch.testing.assert_close(decoder(_batch(0)), first + second - plain, atol=1e-5, rtol=1e-5)
    merge(decoder)
    torch.testing.assert_close(decoder(_batch(0)), first + second - plain, atol=1e-5, rtol=1e-5)
    unmerge(decoder)
    use(decoder, "one")
    assert torch.equal(decoder(_batch(0)), first)
    use(decoder)
    assert torch.equal(decoder(_batch(0)), plain)
    with pytest.raises(ConfigError, match="no adapter 'thre'"):
        use(decoder, "thre")
    with pytest.raises(ConfigError, match="already"):
        add_lora(decoder, LoraConfig(), name="two")


def test_mistakes(decoder: Decoder):
    with pytest.raises(ConfigError, match="names no layer") as caught:
        add_lora(decoder, LoraConfig(target_modules=("query",)))
    assert "q_proj" in caught.value.hint
    with pytest.raises(ConfigError, match="embeddings"):
        add_lora(decoder, LoraConfig(target_modules=("embed_tokens",), use_dora=True))
    with pytest.raises(ConfigError, match="no name"):
        add_lora(decoder, LoraConfig(), name="a.b")
    for function in (merge, unmerge, remove_lora):
        with pytest.raises(ConfigError, match="no adapter"):
            function(decoder)
    with pytest.raises(ConfigError, match="takes no adapter"):
        layout_of(torch.nn.Linear(2, 2))


def test_a_tied_head_is_not_merged(tmp_path: Path):
    _base("qwen3", tmp_path / "base")
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    add_lora(decoder, LoraConfig(target_modules=("lm_head",)))
    with pytest.raises(ConfigError, match="the output head is the embedding"):
        merge(decoder)


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_sparse_models_are_adapted_where_others_can_be(tmp_path: Path, family: str):
    """Experts lie in one tensor in transformers: "all-linear" leaves them out here, and PEFT computes the same."""
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForCausalLM

    sparse = {"mixtral": {"num_local_experts": 3}, "qwen3_moe": {"num_experts": 4, "moe_intermediate_size": 24}}
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**BASE, "head_dim": 8, "num_experts_per_tok": 2, **sparse[family]})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    model.save_pretrained(tmp_path / "base")
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    _fuzzed(add_lora(decoder, LoraConfig(r=3)))
    logits = decoder(_batch(9)).detach()
    save_adapter(decoder, tmp_path / "ours")
    theirs = PeftModel.from_pretrained(model, tmp_path / "ours").eval()
    with torch.no_grad():
        torch.testing.assert_close(theirs(_batch(9)).logits, logits, atol=1e-5, rtol=1e-5)
    _served(tmp_path, logits)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_over_four_bits_as_bitsandbytes_does(tmp_path: Path):
    """QLoRA: PEFT's layers over bitsandbytes' on a CPU, the same adapter, batches and AdamW: the same losses."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    # With AVX-512 its kernels are right only where rows are whole blocks of 64.
    _base("llama", tmp_path / "base", hidden_size=64, intermediate_size=128)
    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    packed = AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", quantization_config=how, device_map="cpu", dtype=torch.float32
    )
    torch.manual_seed(1)
    theirs = get_peft_model(packed, PeftConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=4)).eval()
    for module in theirs.modules():  # where a processor has bfloat16 it would pack weights anew, and round their scales
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    theirs.save_pretrained(tmp_path / "first", save_embedding_layers=False)
    decoder = load_pretrained(tmp_path / "base", dtype=torch.float32)
    to_four_bits(decoder, "nf4")
    parameters = load_adapter(decoder, tmp_path / "first")
    expected = _trained(theirs, [p for p in theirs.parameters() if p.requires_grad], lambda ids: theirs(ids).logits)
    assert _trained(decoder, parameters, decoder) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ConfigError, match="packed weights"):
        merge(decoder)


def test_bfloat16(decoder: Decoder):
    """Adapters stay in float32, under autocast and over a base in bfloat16, and their gradients are near float32's."""
    gradients = []
    for kind in ("float32", "autocast", "base"):
        torch.manual_seed(4)
        if kind == "base":
            decoder.bfloat16()
        parameters = add_lora(decoder, LoraConfig(r=2, use_dora=True), name=kind)
        _fuzzed(parameters)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
            _loss(decoder(_batch(0)), _batch(0)).backward()
        assert all(p.dtype == torch.float32 for p in parameters)
        gradients.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
    for other in gradients[1:]:
        assert F.cosine_similarity(gradients[0], other, dim=0) > 0.98  # 8 bits a product, some hundred products


def test_a_model_with_adapters_is_not_written_as_a_whole(decoder: Decoder, tmp_path: Path):
    add_lora(decoder, LoraConfig())
    with pytest.raises(ConfigError, match="has adapters on it"):
        save_pretrained(decoder, tmp_path / "out")
    remove_lora(decoder)
    save_pretrained(decoder, tmp_path / "out")
