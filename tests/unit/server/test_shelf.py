"""Shelf: models by name; one that is taken off is closed when the last request is over."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError, RequestError
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.server.shelf import Shelf
from bloomery.server.visit import Visit


def named(tiny: LanguageModel, name: str, closed: list[str]) -> LanguageModel:
    model = LanguageModel(tiny.decoder, tiny.tokenizer, name=name)
    close = model.close

    def closing() -> None:
        close()
        closed.append(name)

    model.close = closing  # type: ignore[method-assign]
    return model


def test_two_kinds_described(tiny: LanguageModel, minilm: TextEncoder):
    shelf = Shelf([tiny, minilm])
    assert [(d["id"], d["kind"], d["max_model_len"]) for d in shelf.describe()] == [
        ("tiny", "language", 256),
        ("minilm", "embedding", 256),
    ]
    assert shelf.describe("minilm") == shelf.describe()[1:]
    assert shelf.lend(None, Visit()) is tiny
    with pytest.raises(RequestError, match="tinny") as caught:
        shelf.lend("tinny", Visit())
    assert caught.value.status == 404 and "tiny" in caught.value.hint


def test_names_and_kinds_are_checked(tiny: LanguageModel):
    with pytest.raises(ConfigError, match="already"):
        Shelf([tiny, tiny])
    with pytest.raises(ConfigError, match="cannot be served"):
        Shelf([object()])  # type: ignore[list-item]


def test_removal_waits_for_whoever_has_it(tiny: LanguageModel):
    closed: list[str] = []
    shelf, visits = Shelf([]), [Visit(), Visit()]
    for name in ("a", "b"):
        shelf.add(named(tiny, name, closed), owned=True)
    for visit in visits:
        shelf.lend("a", visit)
        assert visit.model == "a"
    gone = shelf.remove("a")
    with pytest.raises(RequestError):
        shelf.lend("a", Visit())
    visits[0].end()
    assert not gone.is_set() and closed == []
    visits[1].end()
    assert gone.is_set() and closed == ["a"]
    assert shelf.remove("b").is_set() and closed == ["a", "b"] and len(shelf) == 0
    with pytest.raises(RequestError):
        shelf.lend(None, Visit())


def test_a_new_model_may_take_the_name_of_one_that_is_leaving(tiny: LanguageModel):
    closed: list[str] = []
    shelf, visit = Shelf([]), Visit()
    shelf.add(named(tiny, "a", closed), owned=True)
    shelf.lend("a", visit)
    shelf.remove("a")
    shelf.add(named(tiny, "a", closed))
    visit.end()
    assert closed == ["a"] and "a" in shelf
    shelf.clear()
    assert closed == ["a"] and len(shelf) == 0  # the second is not the shelf's to close


def test_what_was_to_be_removed_may_stay(tiny: LanguageModel):
    closed: list[str] = []
    shelf, visit = Shelf([]), Visit()
    for name in ("a", "b"):
        shelf.add(named(tiny, name, closed), owned=True)
    shelf.lend("a", visit)
    gone = shelf.remove("a")
    assert [one["id"] for one in shelf.describe()] == ["b"] and "a" not in shelf and len(shelf) == 1
    assert shelf.keep("a", gone) and [one["id"] for one in shelf.describe()] == ["a", "b"]
    visit.end()
    assert not gone.is_set() and closed == []
    gone = shelf.remove("a")
    assert gone.is_set() and not shelf.keep("a", gone)
