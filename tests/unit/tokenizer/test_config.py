"""What a tokenizer's config refuses, and that keys of tokenizers made before kinds existed are as they were."""

from __future__ import annotations

import pytest

from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError
from bloomery.tokenizer.config import TokenizerConfig, plain_config

_BEFORE = (
    *("vocab_size", "min_frequency", "digits", "sample_bytes", "max_token_bytes", "masks", "sentinels"),
    *("fill_in_the_middle", "encloses", "images", "metadata_fields", "texts"),
)


def test_defaults_have_the_keys_that_there_always_were():
    assert set(plain_config(TokenizerConfig())) == set(_BEFORE)
    assert plain_config(TokenizerConfig(kind="unigram")) == plain_config(TokenizerConfig()) | {"kind": "unigram"}
    assert plain_config(TokenizerConfig()).items() <= to_dict(TokenizerConfig()).items()


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"kmer": 9}, "kmer"),
        ({"max_words": 1}, "max_words"),
        ({"lowercase": True}, "lowercase"),
        ({"sample_bytes": 5_000_000_000}, "sample_bytes"),
        ({"kind": "unigram", "vocab_size": 259}, "256 bytes"),
        ({"texts": False}, "nothing to learn"),
    ],
)
def test_mistakes(values: dict, named: str):
    with pytest.raises(ConfigError, match=named) as caught:
        TokenizerConfig(**values)
    assert "\n" not in caught.value.one_line()


def test_more_text_than_32_bits_count():
    assert TokenizerConfig(sample_bytes=50_000_000_000, count_first=True).counts
    assert TokenizerConfig(kind="word", sample_bytes=50_000_000_000).counts
    assert TokenizerConfig(kind="kmer", vocab_size=259).alphabet_size == 4  # nothing is learnt: the size says nothing
