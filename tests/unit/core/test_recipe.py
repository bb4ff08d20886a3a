"""Recipes: strict TOML, overrides."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.core.recipe import load_recipe


@dataclass(frozen=True, kw_only=True)
class Train:
    minutes: float = 1.0
    name: str = ""


SCHEMA = {"train": Train}


def test_file_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "mine"\n[train]\nminutes = 3\n')
    recipe = load_recipe(path, SCHEMA, ["train.minutes=2", "train.name=word"])
    assert (recipe.name, recipe.table("train", Train)) == ("mine", Train(minutes=2.0, name="word"))
    assert recipe.given == {"train"} and load_recipe(None, SCHEMA).tables["train"] == Train()
    with pytest.raises(TypeError):
        recipe.table("train", int)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[trian]\n", '"train"'),
        ("[train]\nminute = 1\n", '"minutes"'),
        ("[train\n", "line 1"),
        ("train = 1\n", "should be a table"),
        ('[train]\nminutes = "x"\n', "train.minutes"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, SCHEMA)
    assert expected in caught.value.one_line() and str(path) in caught.value.one_line()


@pytest.mark.parametrize("override", ["train", "train.minutes", "minutes=1", "trian.minutes=1", "train.minutes.x=1"])
def test_bad_overrides(override: str) -> None:
    with pytest.raises(ConfigError):
        load_recipe(None, SCHEMA, ["train.minutes=1", override])


@dataclass(frozen=True, kw_only=True)
class Part:
    share: float = 0.5

    def __post_init__(self) -> None:
        if self.share > 1:
            raise ConfigError('"share" is too large')


@dataclass(frozen=True, kw_only=True)
class Whole:
    part: Part = field(default_factory=Part)
    names: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("whole.part.share=true", '"whole.part.share" should be float, not bool (True) (--set whole.part.share=true)'),
        ("whole.part.share=2", '"share" is too large (--set whole.part.share=2)'),
        ("whole.part=3", '"whole.part" should be a table, not int (3) (--set whole.part=3)'),
        ("whole.names=3", '"whole.names" should be a list, not int (3) (--set whole.names=3)'),
        ("whole.prat.share=1", 'unknown key "whole.prat" (--set whole.prat.share=1)'),
    ],
)
def test_what_is_wrong_with_an_override_is_not_the_files(tmp_path: Path, override: str, expected: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[whole.part]\nshare = 0.25\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, {"whole": Whole}, ["whole.names=[]", override])
    assert caught.value.message == expected
    path.write_text("[whole.part]\nshare = 7\n")
    with pytest.raises(ConfigError, match=r"r\.toml"):
        load_recipe(path, {"whole": Whole}, ["whole.names=[]"])


def test_keys_that_were_given(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("[whole.part]\nshare = 0.5\n")
    assert load_recipe(path, {"whole": Whole}, ['whole.names=["a"]']).keys == {"whole.part.share", "whole.names"}


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError):
            load_recipe(path, SCHEMA)


def test_too_large(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="too large"):
        load_recipe(path, SCHEMA)
