"""Every family against transformers: random weights both ways, logits within 1e-4 in float32, greedy text equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import DeviceError
from bloomery.models import Decoder, KVCache, ModelConfig, load_pretrained, save_pretrained
from bloomery.models.native.library import library
from bloomery.models.native.native_decoder import NativeDecoder
from bloomery.models.paged import PagedMemory, PagedStep, Rows

BASE: dict[str, Any] = {
    "vocab_size": 131,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5, 3.0, 3.6],
    "long_factor": [1.0, 1.5, 2.5, 4.0, 7.0, 12.0, 20.0, 32.0],
}
SHAPES: dict[str, dict[str, Any]] = {
    "grouped": {},
    "multi-head, tied": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "one key head": {"num_key_value_heads": 1},
    "odd head_dim": {"head_dim": 24},
    "wide head_dim": {"head_dim": 40, "num_key_value_heads": 4},
    "biases": {"attention_bias": True},
    "theta and eps": {"rope_theta": 1e6, "rms_norm_eps": 1e-5},
    "linear scaling": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "llama3 scaling": {"rope_scaling": LLAMA3},
    "yarn scaling": {"rope_scaling": YARN},
    "yarn, all keys": {"rope_scaling": {**YARN, "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.3}},
    "yarn, mscale": {"rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}},
    "dynamic scaling": {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0}},
    "dynamic scaling, beyond the original": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
        "max_position_embeddings": 32,
    },
    "longrope, short": {"rope_scaling": {**LONGROPE, "original_max_position_embeddings": 64}},
    "longrope, long": {"rope_scaling": {**LONGROPE, "original_max_position_embeddings": 24, "factor": 4.0}},
    "longrope, attention factor": {
        "rope_scaling": {**LONGROPE, "original_max_position_embeddings": 24, "attention_factor": 1.25}
    },
    "feed-forward biases": {"mlp_bias": True, "attention_bias": True},  # Llama's
}
WINDOWS = {"sliding_window": 9, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 24, "sliding_window": 9, "hidden_activation": "gelu_pytorch_tanh"}
MOE = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 40}
# What each family's reference takes beside BASE, and the shapes in which it is compared.
OWN: dict[str, dict[str, dict[str, Any]]] = {
    "llama": SHAPES,
    "qwen3": {
        **{name: shape for name, shape in SHAPES.items() if "mlp_bias" not in shape},
        "windows": {"use_sliding_window": True, **WINDOWS},
        "windows from a layer on": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    },
    "mistral": {
        "no window": {"sliding_window": None},
        "window": {"sliding_window": 9},
        "wide head_dim": {"head_dim": 40, "sliding_window": None, "num_key_value_heads": 1},
        "tied, theta": {"tie_word_embeddings": True, "rope_theta": 1e6},
    },
    "qwen2": {
        "grouped": {},
        "tied, multi-head": {"tie_word_embeddings": True, "num_key_value_heads": 4},
        "windows": {"use_sliding_window": True, **WINDOWS},
        "yarn": {"rope_scaling": YARN},
    },
    "gemma2": {
        "grouped": GEMMA,
        "no caps": {**GEMMA, "attn_logit_softcapping": None, "final_logit_softcapping": None},
        "multi-head": {**GEMMA, "num_key_value_heads": 4, "head_dim": 24},
        "tight caps": {**GEMMA, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    },
    "gemma3_text": {
        "pattern": {**GEMMA, "num_hidden_layers": 7},
        "listed": {**GEMMA, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
        "all full": {**GEMMA, "layer_types": ["full_attention"] * 3},
        "one key head": {**GEMMA, "num_key_value_heads": 1, "layer_types": WINDOWS["layer_types"]},
    },
    "smollm3": {
        "every fourth unrotated": {"num_hidden_layers": 5, "pad_token_id": 0},
        "every second unrotated": {"no_rope_layer_interval": 2, "pad_token_id": 0},
        "listed": {"no_rope_layers": [0, 1, 0], "pad_token_id": 0, "tie_word_embeddings": False},
        "all rotated": {"no_rope_layers": [1, 1, 1], "pad_token_id": 0, "attention_bias": True},
    },
    "olmo2": {
        "grouped": {},
        "multi-head": {"num_key_value_heads": 4},
        "biases": {"attention_bias": True},
        "tied, llama3 scaling": {"tie_word_embeddings": True, "rope_scaling": LLAMA3},
    },
    "phi3": {
        "grouped": {"pad_token_id": 0},
        "window": {"sliding_window": 9, "pad_token_id": 0},
        "partly rotated": {"pad_token_id": 0, "rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        "tied, multi-head": {"tie_word_embeddings": True, "num_key_value_heads": 4, "pad_token_id": 0},
        "longrope, short": {"pad_token_id": 0, "rope_scaling": LONGROPE, "original_max_position_embeddings": 64},
        "longrope, long": {"pad_token_id": 0, "rope_scaling": LONGROPE, "original_max_position_embeddings": 24},
    },
    "bloom": {
        "eight heads": {},
        "six heads": {"n_head": 6, "hidden_size": 96},
        "eleven heads": {"n_head": 11, "hidden_size": 88},
        "untied": {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-3},
    },
    "gpt2": {
        "plain": {},
        "inner": {"n_inner": 100, "activation_function": "relu"},
        "untied": {"tie_word_embeddings": False},
        "eps": {"layer_norm_epsilon": 1e-3, "n_head": 8},
    },
    "gpt_neox": {
        "parallel": {},
        "in a row": {"use_parallel_residual": False, "attention_bias": False},
        "half rotated": {"rope_parameters": {"rope_theta": 5e4, "partial_rotary_factor": 0.5, "rope_type": "default"}},
        "all rotated": {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 1.0, "rope_type": "default"}},
    },
    "mixtral": {
        "two of four": {"num_local_experts": 4},
        "one of three": {"num_local_experts": 3, "num_experts_per_tok": 1},
        "window": {"num_local_experts": 4, "sliding_window": 9},
        "multi-head": {"num_local_experts": 5, "num_experts_per_tok": 3, "num_key_value_heads": 4},
    },
    "qwen3_moe": {
        "all sparse": MOE,
        "normalised": {**MOE, "norm_topk_prob": True},
        "every second sparse": {**MOE, "decoder_sparse_step": 2},
        "some dense": {**MOE, "mlp_only_layers": [1], "attention_bias": True},
    },
}
FAMILIES = sorted(OWN)
EXPERTS = ("mixtral", "qwen3_moe")
CASES = [(family, shape) for family in FAMILIES for shape in OWN[family]]
# The base has sizes under other names, or not at all.
_SIZES = ("vocab_size", "bos_token_id", "eos_token_id")
BASES: dict[str, dict[str, Any]] = {
    "gpt2": {**{k: BASE[k] for k in _SIZES}, "n_positions": 96, "n_embd": 64, "n_layer": 3, "n_head": 4},
    "bloom": {**{k: BASE[k] for k in (*_SIZES, "hidden_size")}, "n_layer": 3, "n_head": 8, "seq_length": 96},
    "gpt_neox": {k: v for k, v in BASE.items() if k != "num_key_value_heads"},
}


def _reference(family: str, shape: dict[str, Any], seed: int = 0) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    base = BASES.get(family, BASE)
    heads = {"head_dim": 16} if family in ("llama", "qwen3", "qwen3_moe") else {}
    torch.manual_seed(seed)
    # A mask in the open, so that softcaps and windows are computed as written.
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(family, **{**base, **heads, **shape}), attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            # Norms and biases start at one and zero: shake them, or a mistake in them would not show.
            parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.08))
    return model


def _ids(seed: int = 0) -> torch.Tensor:
    return torch.randint(3, 131, (2, 41), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def _greedy(decoder: Decoder, prompt: torch.Tensor, steps: int, *, cached: bool = True) -> list[int]:
    cache = KVCache(decoder.config, 1, prompt.size(1) + steps) if cached else None
    logits, tokens = decoder(prompt, cache=cache, last_only=True), []
    for _ in range(steps):
        tokens.append(int(logits[0, -1].argmax()))
        last = torch.tensor([[tokens[-1]]])
        prompt = torch.cat((prompt, last), dim=1)
        logits = decoder(last if cached else prompt, cache=cache)
    return tokens


@torch.inference_mode()
def _greedy_in_company(decoder: Decoder, prompt: torch.Tensor, steps: int) -> list[int]:
    """The same through paged memory, in steps that two other texts share, one of which is read meanwhile."""
    memory = PagedMemory(decoder.config, 3 * 48 + 16)
    texts = [_ids(7)[0, :9].tolist(), prompt[0].tolist(), _ids(8)[1].tolist()]
    read = [0, 0, 0]
    for _ in range(steps):
        # Blocks of 16: the middle text's are not neighbours.
        places = [[(0, 48)], [(48, 16), (112, 48)], [(64, 48)]]
        counts = [len(texts[0]) - read[0], len(texts[1]) - read[1], 1]
        rows = [Rows(start, n, _cut(runs, start + n)) for start, n, runs in zip(read, counts, places, strict=True)]
        ids = [i for text, start, n in zip(texts, read, counts, strict=True) for i in text[start : start + n]]
        hidden = decoder.hidden_states(torch.tensor([ids]), cache=PagedStep(memory, rows))[0]
        read = [start + n for start, n in zip(read, counts, strict=True)]
        best = decoder.logits(hidden).argmax(-1)
        texts[0].append(int(best[counts[0] - 1]))
        texts[1].append(int(best[counts[0] + counts[1] - 1]))
    return texts[1][prompt.size(1) :]


def _cut(runs: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    first = min(runs[0][1], length)
    return [(runs[0][0], first)] + [(start, length - first) for start, _ in runs[1:] if length > first]


def _compare(ours: Decoder, theirs: Any) -> None:
    ids = _ids()
    with torch.inference_mode():
        expected, got = theirs(ids).logits, ours(ids)
    assert (got - expected).abs().max() < 1e-4
    prompt = ids[:1, :7]
    # Where frequencies depend on how long a text is, a cache holds keys of the shorter text; see `Decoder.rope`.
    scaling = ours.config.rope_scaling
    cached = scaling is None or scaling.rope_type not in ("dynamic", "longrope")
    options = {"max_new_tokens": 32, "min_new_tokens": 32, "do_sample": False, "pad_token_id": 0}
    text = theirs.generate(prompt, use_cache=cached, **options)
    reference = text[0, 7:].tolist()
    if 2 in reference:  # transformers bans the end token to reach min_new_tokens; compare up to where it would be
        reference = reference[: reference.index(2)]
    ours_text = _greedy(ours, prompt, 32, cached=cached)
    if cached:
        assert _greedy_in_company(ours, prompt, 32) == ours_text
    stop = ours_text.index(2) if 2 in ours_text else 32
    assert ours_text[:stop] == reference[:stop]
    assert stop > 0


@pytest.mark.parametrize(("family", "shape"), CASES, ids=lambda s: s.replace(" ", "-"))
def test_theirs_loads_here(family: str, shape: str, tmp_path: Path):
    theirs = _reference(family, OWN[family][shape])
    theirs.save_pretrained(tmp_path)
    _compare(load_pretrained(tmp_path), theirs)


@pytest.mark.parametrize(("family", "shape"), CASES, ids=lambda s: s.replace(" ", "-"))
def test_ours_loads_there(family: str, shape: str, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    _reference(family, OWN[family][shape], seed=1).save_pretrained(tmp_path / "theirs")
    ours = load_pretrained(tmp_path / "theirs")
    save_pretrained(ours, tmp_path / "ours")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert type(theirs).__name__ == ours.config.family.architecture
    _compare(ours, theirs)


@pytest.mark.parametrize(
    ("family", "shape"), [c for c in CASES if c[0] not in EXPERTS], ids=lambda s: s.replace(" ", "-")
)
@torch.inference_mode()
def test_native_steps_give_their_logits(family: str, shape: str, tmp_path: Path):
    """Two texts of unlike length, token by token through scattered memory, and every row alone to the last bit."""
    if library().calls is None:
        pytest.skip(library().text)
    theirs = _reference(family, OWN[family][shape])
    theirs.save_pretrained(tmp_path)
    ours, ids = load_pretrained(tmp_path), _ids()
    native, expected = NativeDecoder(ours, threads=2), theirs(ids).logits
    memory, alone = (PagedMemory(ours.config, 160) for _ in range(2))
    # Where frequencies depend on a text's length, a whole forward has those of all of it.
    reach, places = ours.config.reach(ids.size(1)), [[(0, 16), (112, 48)], [(64, 48)]]
    for at in range(ids.size(1)):
        live = [n for n in range(2) if n == 0 or at < 30]
        rows = [Rows(at, 1, _cut(places[n], at + 1), reach) for n in live]
        got = native.step(memory, rows, [[int(ids[n, at])] for n in live])
        assert (got - expected[live, at]).abs().max() < 1e-4
        assert torch.equal(native.step(alone, rows[:1], [[int(ids[0, at])]])[0], got[0])
    rows = Rows(0, ids.size(1), _cut(places[0], ids.size(1)), reach)
    whole = native.prefill(memory, rows, ids[0].tolist(), ids.size(1))
    assert (whole - expected[0]).abs().max() < 1e-4
    for start, end in ((0, 19), (19, 20), (20, ids.size(1))):  # in parts, to the last bit
        part = Rows(start, end - start, _cut(places[0], end), reach)
        assert torch.equal(native.prefill(alone, part, ids[0, start:end].tolist(), 1)[0], whole[end - 1])


@pytest.mark.parametrize("family", EXPERTS)
def test_native_steps_refuse_experts(family: str):
    if library().calls is None:
        pytest.skip(library().text)
    config = ModelConfig.from_hf({"model_type": family, **BASE, "head_dim": 16})
    with pytest.raises(DeviceError, match="does not know a MixtureOfExperts"):
        NativeDecoder(Decoder(config))


@pytest.mark.parametrize(
    "family", [f for f in FAMILIES if f not in ("bloom", "gpt2", "gpt_neox", "gemma3_text", "phi3")]
)
def test_a_config_of_older_transformers(family: str, tmp_path: Path):
    """rope_theta and rope_scaling at the top level, as transformers before 5 wrote them."""
    own = next(iter(OWN[family].values()))
    theirs = _reference(family, {**own, "rope_scaling": LLAMA3, "rope_theta": 5e5})
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = parameters
    path.write_text(json.dumps(config))
    _compare(load_pretrained(tmp_path), theirs)


def test_configs_of_older_transformers_with_keys_of_their_own(tmp_path: Path):
    """Gemma 3's rope_local_base_freq and sliding_window_pattern, GPT-NeoX's rotary_pct and rotary_emb_base."""
    gemma = _reference("gemma3_text", {**GEMMA, "num_hidden_layers": 7})
    neox = _reference("gpt_neox", OWN["gpt_neox"]["half rotated"])
    for theirs, dropped, added in (
        (
            gemma,
            ("rope_parameters", "layer_types", "_sliding_window_pattern"),
            {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None, "sliding_window_pattern": 6},
        ),
        (neox, ("rope_parameters",), {"rotary_pct": 0.5, "rotary_emb_base": 50000}),
    ):
        theirs.save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**{k: v for k, v in config.items() if k not in dropped}, **added}))
        _compare(load_pretrained(tmp_path), theirs)


def test_a_file_without_the_head(tmp_path: Path):
    """GPT-2 on the hub was saved from the base model: names lack their prefix, and its masks are in the file."""
    from safetensors.torch import load_file, save_file

    theirs = _reference("gpt2", {})
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 96, 96).tril()
    save_file(bare, tmp_path / "model.safetensors")
    _compare(load_pretrained(tmp_path), theirs)


def test_sharded_both_ways(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    theirs = _reference("qwen3", {})
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="100KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file()
    ours = load_pretrained(tmp_path / "theirs")
    _compare(ours, theirs)
    save_pretrained(ours, tmp_path / "ours", max_shard_bytes=100_000)
    assert (tmp_path / "ours" / "model.safetensors.index.json").is_file()
    _compare(ours, AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval())


def test_bfloat16_is_kept(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    _reference("llama", {}).to(torch.bfloat16).save_pretrained(tmp_path)
    ours = load_pretrained(tmp_path)
    assert {p.dtype for p in ours.parameters()} == {torch.bfloat16}
    full = load_pretrained(tmp_path, dtype=torch.float32)
    with torch.inference_mode():
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)(_ids()).logits
        assert (full(_ids()) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fresh_model_round_trips(family: str, tmp_path: Path):
    heads = {} if family in BASES else {"head_dim": 16}
    config = ModelConfig.from_hf({"model_type": family, **BASES.get(family, BASE), **heads})
    torch.manual_seed(0)
    decoder = Decoder(config).eval()
    save_pretrained(decoder, tmp_path)
    again = load_pretrained(tmp_path)
    assert again.config == config
    for (name, a), (_, b) in zip(decoder.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
