"""GGUF of T5: transformers reads it back to the same logits; what llama.cpp cannot compute is refused.

llama.cpp itself reads it in tests/golden/test_llama_cpp_seq2seq.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.core.errors import ConfigError
from bloomery.engine.gguf_file import export_gguf
from bloomery.engine.gguf_seq2seq import check_seq2seq
from bloomery.models.seq2seq import Seq2Seq, load_seq2seq, save_seq2seq
from bloomery.models.seq2seq_config import Seq2SeqConfig
from bloomery.tokenizer import Tokenizer

SIZES: dict[str, Any] = {"model_type": "t5", "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
V11: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


@pytest.mark.parametrize("changes", [{}, V11], ids=["t5", "v1.1"])
def test_transformers_reads_it(changes: dict[str, Any], tiny_folder: Path, tmp_path: Path):
    from transformers import AutoConfig, T5ForConditionalGeneration

    tokenizer, folder = Tokenizer.load(tiny_folder), tmp_path / "model"
    torch.manual_seed(0)
    config = Seq2SeqConfig.from_hf({**SIZES, "vocab_size": tokenizer.vocab_size, **changes})
    save_seq2seq(Seq2Seq(config), folder)
    tokenizer.save(folder)
    path = export_gguf(folder, tmp_path / "m.gguf")
    theirs_config = AutoConfig.from_pretrained(folder)
    theirs_config.scale_decoder_outputs = False  # the scale is in the last norm, for llama.cpp knows none
    theirs = T5ForConditionalGeneration.from_pretrained(
        tmp_path, gguf_file=path.name, config=theirs_config, dtype=torch.float32
    )
    source, target = torch.randint(3, 200, (2, 30)), torch.randint(3, 200, (2, 11))
    ours = load_seq2seq(folder)
    with torch.inference_mode():
        logits = theirs.eval()(input_ids=source, decoder_input_ids=target).logits
        assert (logits - ours(source, target)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"feed_forward_proj": "gated-silu"}, "gated-silu"),
        ({"feed_forward_proj": "gelu"}, "feed_forward_proj gelu"),
        ({"relative_attention_max_distance": 64}, "max_distance 64"),
        ({"num_decoder_layers": 3}, "more layers"),
    ],
)
def test_what_llama_cpp_does_not_compute(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        check_seq2seq(Seq2SeqConfig.from_hf({**SIZES, "vocab_size": 100, **changes}))
    assert "\n" not in caught.value.one_line() and caught.value.hint


def test_two_tokenizers(tiny_folder: Path, tmp_path: Path):
    tokenizer, folder = Tokenizer.load(tiny_folder), tmp_path / "model"
    save_seq2seq(Seq2Seq(Seq2SeqConfig.from_hf({**SIZES, "vocab_size": tokenizer.vocab_size})), folder)
    tokenizer.save(folder)
    tokenizer.save(folder / "target")
    with pytest.raises(ConfigError, match="one tokenizer"):
        export_gguf(folder, tmp_path / "m.gguf")
