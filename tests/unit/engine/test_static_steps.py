"""Static steps: what ragged ones give, for every batch and length; graphs where there is a GPU; refused elsewhere."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.engine import LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.static_steps import StaticSteps, check_static
from bloomery.models import Decoder, ModelConfig
from bloomery.models.paged import PagedMemory, PagedStep, Rows

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}


def _decoder(model_type: str, device: str = "cpu", **more) -> Decoder:
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig.from_hf({"model_type": model_type, **SIZES, "initializer_range": 0.2, **more}))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(0.0, 0.2)
    return decoder.eval().requires_grad_(False).to(device)


def _compare(decoder: Decoder, how: str, dtype: torch.dtype = torch.float32, bound: float = 1e-4) -> None:
    """Texts of 1, 5 and 140 tokens, one of them in two runs of memory, three steps long."""
    device = decoder.model.embed_tokens.weight.device
    generator = torch.Generator().manual_seed(1)
    lengths, firsts = [1, 5, 140], [0, 100, 200]
    texts = [torch.randint(0, 64, (length + 3,), generator=generator).tolist() for length in lengths]

    def rows(n: int, start: int, count: int) -> Rows:
        end = start + count
        runs = [(firsts[n], min(end, 64))] + ([(600, end - 64)] if end > 64 else [])
        return Rows(start, count, runs)

    memories = [PagedMemory(decoder.config, 1024, dtype, device) for _ in range(2)]
    steps = StaticSteps(decoder, memories[1], how)
    with torch.inference_mode():
        for memory in memories:
            for n, length in enumerate(lengths):
                ids = torch.tensor([texts[n][:length]], device=device)
                decoder.hidden_states(ids, cache=PagedStep(memory, [rows(n, 0, length)], device))
        for step in range(3):
            now = [rows(n, length + step, 1) for n, length in enumerate(lengths)]
            ids = [texts[n][length + step] for n, length in enumerate(lengths)]
            cache = PagedStep(memories[0], now, device)
            expected = decoder.logits(decoder.hidden_states(torch.tensor([ids], device=device), cache=cache)[0])
            torch.testing.assert_close(steps.logits(ids, now), expected.float().cpu(), atol=bound, rtol=bound)


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma2", "gpt2"])
def test_the_same_as_ragged_steps(model_type: str):
    more = {"sliding_window": 9, "head_dim": 8} if model_type == "gemma2" else {}
    if model_type == "gpt2":
        sizes = {"vocab_size": 64, "n_positions": 512, "n_embd": 32, "n_layer": 2, "n_head": 4}
        decoder = Decoder(ModelConfig.from_hf({"model_type": "gpt2", **sizes})).eval().requires_grad_(False)
    else:
        decoder = _decoder(model_type, **more)
    _compare(decoder, "plain")


def test_with_int8_memory():
    _compare(_decoder("llama"), "plain", torch.int8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs():
    _compare(_decoder("llama", "cuda"), "graph", bound=1e-3)


def test_refused(tiny: LanguageModel):
    device = torch.device("cpu")
    with pytest.raises(ConfigError, match="on a GPU only"):
        check_static("graph", tiny.config, device)
    scaling = {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0}}
    experts = {"num_local_experts": 4, "num_experts_per_tok": 2}
    for model_type, more, reason in (("llama", scaling, "length"), ("mixtral", experts, "experts")):
        config = ModelConfig.from_hf({"model_type": model_type, **SIZES, **more})
        with pytest.raises(ConfigError, match=reason):
            check_static("plain", config, device)
    with pytest.raises(ConfigError, match="unknown static_steps"):
        EngineConfig(static_steps="graphs")
    with pytest.raises(ConfigError, match="on a GPU only"):
        LanguageModel(tiny.decoder, tiny.tokenizer, name="other", engine=EngineConfig(static_steps="graph"))
