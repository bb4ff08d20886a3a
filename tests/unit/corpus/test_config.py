"""CurateConfig: what is out of range is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError
from bloomery.corpus.config import CurateConfig, plain_config


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sources": []}, "sources"),
        ({"sources": ["n\udcff.txt"]}, "not UTF-8"),
        ({"packages": ["numpy.linalg"]}, "numpy.linalg"),
        ({"validation_fraction": 0.7}, "validation_fraction"),
        ({"test_fraction": -0.1}, "test_fraction"),
        ({"decontaminate_words": -1}, "decontaminate_words"),
        ({"max_document_bytes": 1}, "max_document_bytes"),
        ({"encoding": "latin-one"}, "latin-one"),
        ({"encoding": "hex"}, "hex"),
        ({"split": "random"}, "split"),
        ({"sauces": ["a.txt"]}, "sauces"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said) as caught:
        from_dict(CurateConfig, values)
    assert "\n" not in caught.value.one_line()


def test_the_default_is_python_docs_and_survives_a_round_trip():
    config = CurateConfig()
    assert config.sources == ("python-docs",)
    assert from_dict(CurateConfig, to_dict(config)) == config


def test_what_is_not_asked_for_does_not_change_a_corpus_key():
    assert not {"filter", "personal", "extract", "extract_seconds"} & set(plain_config(CurateConfig()))
    assert plain_config(CurateConfig(extract="quality"))["extract"] == "quality"
