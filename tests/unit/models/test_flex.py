"""Flex attention gives what SDPA gives, whatever is hidden, added or capped; compiled too where there is a compiler."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError, DeviceError
from bloomery.models import Decoder, KVCache, ModelConfig
from bloomery.models.alibi import slopes, with_alibi
from bloomery.models.attention import EVERYTHING, Mask, attend, causal_mask, use_backend, window_mask

CPU = torch.device("cpu")
PADDED = torch.ones(2, 1, 1, 150, dtype=torch.bool)
PADDED[1, ..., 90:] = False
# 150 is more than one of flex attention's blocks of 128, and no multiple of it.
MASKS = {
    "all": EVERYTHING,
    "causal": Mask(causal=True),
    "causal window": causal_mask(0, 150, 20, CPU),
    "bidirectional window": Mask(window_mask(150, 9, CPU)),
    "padding": Mask(PADDED),
    "padding and window": Mask(PADDED & window_mask(150, 70, CPU)),
    "bias": Mask(torch.linspace(-2, 2, 150 * 150).view(150, 150)),
    "alibi": with_alibi(Mask(causal=True), torch.tensor(slopes(4)), 0, 150),
}


def _qkv(kv_heads: int = 2, length: int = 150, total: int = 150) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return torch.randn(2, 4, length, 16), torch.randn(2, kv_heads, total, 16), torch.randn(2, kv_heads, total, 16)


@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("kv_heads", [1, 4])
@pytest.mark.parametrize("name", MASKS)
def test_the_same_as_sdpa(name: str, kv_heads: int, softcap: float | None):
    # Padding that is far from all it may see has no softmax: compared where there is one.
    seen = slice(None) if name != "padding and window" else slice(0, 90)
    query, key, value = _qkv(kv_heads)
    expected = attend(query, key, value, MASKS[name], scale=0.3, softcap=softcap)
    found = attend(query, key, value, MASKS[name], scale=0.3, softcap=softcap, backend="flex_eager")
    torch.testing.assert_close(found[:, :, seen], expected[:, :, seen], rtol=1e-4, atol=1e-5)


def test_after_a_cache():
    query, key, value = _qkv(length=40)
    mask = causal_mask(110, 40, 33, CPU)
    expected = attend(query, key, value, mask, scale=0.3, softcap=None)
    found = attend(query, key, value, mask, scale=0.3, softcap=None, backend="flex_eager")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # One query has no block to leave out: it goes to SDPA, to the bit.
    one = (query[:, :, :1], key, value)
    kinds = [attend(*one, EVERYTHING, scale=0.3, softcap=None, backend=name) for name in ("sdpa", "flex")]
    assert torch.equal(*kinds)


def test_blocks_are_worked_out_once_for_all_layers():
    query, key, value = _qkv()
    mask = causal_mask(0, 150, 20, CPU)
    for _ in range(2):
        attend(query, key, value, mask, scale=0.3, softcap=None, backend="flex_eager")
        (blocks,) = mask.memo.values()
    assert int((blocks.kv_num_blocks + blocks.full_kv_num_blocks).sum()) == 3  # one of four lies above the diagonal


@torch.inference_mode()
@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "gemma2", "hidden_act": "gelu_pytorch_tanh", "attn_logit_softcapping": 2.0},
        {"model_type": "qwen3"},
    ],
    ids=lambda options: options["model_type"],
)
def test_a_whole_decoder(options: dict[str, Any]):
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 53, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    window: dict[str, Any] = {"sliding_window": 5, "layer_types": ("sliding_attention", "full_attention")}
    config = ModelConfig(**sizes, **heads, **window, max_position_embeddings=160, initializer_range=0.3, **options)
    decoder = Decoder(config).eval()
    for parameter in decoder.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    ids = torch.randint(0, 53, (2, 140))
    expected = decoder(ids)
    use_backend(decoder, "flex_eager")
    assert (decoder(ids) - expected).abs().max() < 1e-4
    cache = KVCache(config, 2, 140)
    steps = [decoder(ids[:, start:stop], cache=cache) for start, stop in ((0, 130), (130, 139), (139, 140))]
    assert (torch.cat(steps, dim=1) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("backend", ["flex", "flex_eager"])
def test_training_on_a_cpu_is_refused_before_it_starts(backend: str):
    query, key, value = _qkv()
    with pytest.raises(ConfigError, match="no backward on CPUs"):
        attend(query, key, value.requires_grad_(), EVERYTHING, scale=0.3, softcap=None, backend=backend)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiled():
    """Wants a C++ compiler; a window's blocks and a cap are in the kernel. Of two lengths, for those left open fail."""
    with torch.inference_mode():
        for length, softcap in ((150, 1.5), (290, None)):
            query, key, value = _qkv(length=length, total=length)
            mask = causal_mask(0, length, 20, CPU)
            expected = attend(query, key, value, mask, scale=0.3, softcap=softcap)
            found = attend(query, key, value, mask, scale=0.3, softcap=softcap, backend="flex")
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_without_a_compiler_it_is_said(monkeypatch: pytest.MonkeyPatch):
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("/no/such/compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    query, key, value = _qkv(length=131, total=131)
    with torch.inference_mode(), pytest.raises(DeviceError, match="does not compile here") as caught:
        attend(query, key, value, EVERYTHING, scale=0.3, softcap=0.7, backend="flex")
    assert caught.value.hint == "use sdpa" and "\n" not in str(caught.value)
