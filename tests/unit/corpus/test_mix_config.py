"""Which source a document is of, and what is no table of a mix."""

from __future__ import annotations

import pytest

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError
from bloomery.corpus.config import CurateConfig
from bloomery.corpus.mix_config import MixConfig, source_key


@pytest.mark.parametrize(
    ("table", "source", "key"),
    [
        ({"docs": 1, "*": 2}, "docs/a/b.md", "docs"),
        ({"docs/": 1, "*": 2}, "docs/a/b.md", "docs/"),
        ({"docs": 1, "*": 2}, "docs2/a.md", "*"),
        ({"docs/*.md": 1}, "docs/a.md", "docs/*.md"),
        ({"*": 1, "docs": 2}, "docs/a.md", "docs"),  # "*" is what is left, wherever it stands
        ({"hf:data/set#de": 1}, "data/set/train.parquet", "hf:data/set#de"),
        ({"code:tree": 1}, "tree/src/x.py", "code:tree"),
        ({"python-docs": 1}, "python-docs:json.decoder", "python-docs"),
        ({"docs": 1}, "web/a.md", None),
    ],
)
def test_which_key_a_source_fits(table: dict[str, int], source: str, key: str | None):
    assert source_key(table, source) == key


def test_a_table_in_a_recipe_is_checked_before_anything_is_read():
    mix = {"weights": {"a.txt": 1, "b.txt": 2}, "temperature": 3.3}
    config = from_dict(CurateConfig, {"sources": ["a.txt", "b.txt"], "mix": mix}, where="curate")
    assert config.mix.active and config.mix.shuffles
    with pytest.raises(ConfigError, match=r"names a\.txt, which is no source"):
        from_dict(CurateConfig, {"sources": ["b.txt"], "mix": mix}, where="curate")
    with pytest.raises(ConfigError, match="temprature") as error:
        from_dict(CurateConfig, {"mix": {"temprature": 2.0}}, where="curate")
    assert "temperature" in error.value.hint


def test_nothing_asked_is_no_mix():
    assert not MixConfig().active and not MixConfig(max_epochs=2.0).active
    assert MixConfig(shuffle=True).active and not MixConfig(shuffle=True).weighs
    assert MixConfig(size=5).shuffles and not MixConfig(size=5, shuffle=False).shuffles
