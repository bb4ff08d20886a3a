"""Names of split patterns: there and back, and against the patterns that are published with the encodings.

That llama.cpp splits so under each name is tested in tests/golden/test_llama_cpp.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.errors import ConfigError
from bloomery.engine.gguf_splits import SPLITS, split_name, split_named
from bloomery.tokenizer.tiktoken_file import QWEN_PATTERN, known_patterns


def _pattern(name: str) -> str:
    return SPLITS[name].pre_tokenizer["pretokenizers"][0]["pattern"]["Regex"]


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "dbrx", "qwen2", "smollm", "bloom"])
def test_there_and_back(name: str):
    split = split_named(name)
    described: dict[str, Any] = {
        "pre_tokenizer": split.pre_tokenizer,
        "normalizer": split.normalizer,
        "model": {"ignore_merges": split.ignore_merges},
    }
    assert split_name(described) == name


def test_published_patterns():
    assert _pattern("qwen2") == QWEN_PATTERN
    assert {_pattern("dbrx"), _pattern("gpt-4o")} <= known_patterns()
    assert "(?i:" not in _pattern("tekken") and SPLITS["tekken"].adds_bos
    assert SPLITS["qwen2"].normalizer == {"type": "NFC"} and not SPLITS["qwen2"].adds_bos


def test_every_pattern_is_one_that_the_library_reads():
    import json

    from tokenizers import Tokenizer

    for split in SPLITS.values():
        whole = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}}
        backend = Tokenizer.from_str(json.dumps(whole | {"pre_tokenizer": split.pre_tokenizer}))
        assert backend.pre_tokenizer is not None
        parts = backend.pre_tokenizer.pre_tokenize_str("don't 12345 Größe\n\n  x")
        assert "".join(text for text, _ in parts).count("Ġ") == 4 and len(parts) > 3


@pytest.mark.parametrize("name", ["qwen", "default", "", "falcon"])
def test_unknown(name: str):
    with pytest.raises(ConfigError, match="not known") as caught:
        split_named(name)
    assert caught.value.hint
