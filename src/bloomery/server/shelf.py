"""Shelf: the models that a server has, by name, of several kinds; lent to requests and taken back.

A model that is taken off the shelf answers nobody new; it is let go when the last request that has it is over. This
module does not know HTTP or where models come from.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable
from typing import Any

from bloomery.core.errors import ConfigError, RequestError, nearest
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.server.visit import Visit

Served = LanguageModel | TextEncoder
_numbers = itertools.count()


def readable_tokens(model: Served) -> int:
    """How many tokens a model reads at once; for an encoder, how many of a text."""
    return model.text_length if isinstance(model, TextEncoder) else model.context_length


class _Place:
    def __init__(self, model: Served, owned: bool, base: _Place | None = None) -> None:
        self.model = model
        self.owned = owned
        self.base = base
        """Where the model is that this one is an adapter of."""
        self.created = int(time.time())
        self.number = next(_numbers)
        self.users = 0
        self.leaving = False
        self.going: list[_Place] = []
        """What is closed with this place when nobody has it any more: its adapters, and itself."""
        self.gone = threading.Event()


class Shelf:
    """Thread-safe. In the order in which models came; the first is what a route without a model name takes."""

    def __init__(self, models: Iterable[Served]) -> None:
        self._places: dict[str, _Place] = {}
        self._leaving: dict[str, _Place] = {}
        self._lock = threading.Lock()
        for model in models:
            self.add(model)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def add(self, model: Served, *, owned: bool = False) -> None:
        """One that is `owned` is closed when it leaves; others are left to whoever made them. ConfigError for a kind
        that is not served, and for a name that is taken."""
        if not isinstance(model, (LanguageModel, TextEncoder)):
            name = getattr(model, "name", type(model).__name__)
            raise ConfigError(f"{name} ({type(model).__name__}) cannot be served", hint="in Python: bl.load(...)")
        with self._lock:
            if model.name in self._places:
                raise ConfigError(f"there is a model {model.name!r} already", hint="each needs its own name")
            self._places[model.name] = _Place(model, owned)

    def remove(self, name: str) -> threading.Event:
        """Lend it to nobody new; the event is set when nobody has it any more. RequestError 404 if there is none."""
        with self._lock:
            place = self._place(name)
            # A model goes with its adapters: they are its weights and a little more.
            place.going = [*(one for one in self._places.values() if one.base is place), place]
            for one in place.going:
                del self._places[one.model.name]
                one.leaving = True
            self._leaving[name or place.model.name] = place
            close = self._over(place)
        for one in close:
            _close(one)
        return place.gone

    def keep(self, name: str, gone: threading.Event) -> bool:
        """Lend again what was to be removed, with what `remove` gave, in its old place; False where it has gone, or
        another has its name."""
        with self._lock:
            place = self._leaving.get(name)
            if place is None or place.gone is not gone or any(one.model.name in self._places for one in place.going):
                return False
            del self._leaving[name]
            for one in place.going:
                one.leaving = False
                self._places[one.model.name] = one
            place.going = []
            self._places = dict(sorted(self._places.items(), key=lambda item: item[1].number))
            return True

    def _over(self, *places: _Place) -> list[_Place]:
        """What is to be closed, of these and their adapters, now that nobody has them any more."""
        close: list[_Place] = []
        for place in places:
            if place.going and not place.users:
                close += place.going
                place.going = []
                if self._leaving.get(place.model.name) is place:
                    del self._leaving[place.model.name]
        return close

    def base(self, name: str | None) -> LanguageModel:
        """The language model that an adapter is for; None: the first. RequestError if there is none."""
        with self._lock:
            places = list(self._places.values()) if name is None else [self._place(name)]
        for place in places:
            if isinstance(place.model, LanguageModel) and place.base is None:
                return place.model
        what = "no language model" if name is None else f"{name!r:.200} is no language model"
        raise RequestError(what, hint="adapters are for language models", param="model", code="unsupported_model")

    def add_adapter(self, base: LanguageModel, name: str) -> None:
        """An adapter that the base has loaded, as a model of its own name. ConfigError for a name that is taken, and if
        the base is gone meanwhile."""
        with self._lock:
            place = self._places.get(base.name)
            if name in self._places or place is None or place.model is not base:
                raise ConfigError(f"there is a model {name!r} already, or none any more of {base.name!r}")
            self._places[name] = _Place(base.adapted(name), False, place)

    def adapters(self) -> list[str]:
        """The names of all adapters."""
        with self._lock:
            return [name for name, place in self._places.items() if place.base is not None]

    def clear(self) -> None:
        """Take all off."""
        for name in list(self._places):
            if name in self._places:  # adapters go with their model
                self.remove(name)

    def lend(self, name: str | None, visit: Visit) -> Served:
        """The model until the visit is over; None takes the first. RequestError 404 if there is none."""
        with self._lock:
            place = self._place(name)
            place.users += 1
            if place.base is not None:
                place.base.users += 1
        visit.model = place.model.name
        visit.on_end(lambda: self._take_back(place))
        return place.model

    def models(self) -> list[Served]:
        """Those that are lent now, in their order; adapters are computed by their models' engines, and not among
        them."""
        with self._lock:
            places = [place for place in self._places.values() if place.base is None]
        return [place.model for place in places]

    def describe(self, name: str | None = None) -> list[dict[str, Any]]:
        """OpenAI's model objects, of all or of one; `max_model_len` and `kind` are extensions, and an adapter's
        `parent`, as vLLM has it."""
        with self._lock:
            places = list(self._places.values()) if name is None else [self._place(name)]
        return [
            {
                "id": place.model.name,
                "object": "model",
                "created": place.created,
                "owned_by": "bloomery",
                "max_model_len": readable_tokens(place.model),
                "kind": "embedding" if isinstance(place.model, TextEncoder) else "language",
                **({} if place.base is None else {"root": place.base.model.name, "parent": place.base.model.name}),
            }
            for place in places
        ]

    def _place(self, name: str | None) -> _Place:
        if name is None and self._places:
            return next(iter(self._places.values()))
        place = self._places.get(name or "")
        if place is None:
            hint = nearest(name, self._places) if name and len(name) < 200 else ""
            raise RequestError(f"no model {name!r:.200}", hint=hint, param="model", code="model_not_found", status=404)
        return place

    def _take_back(self, place: _Place) -> None:
        with self._lock:
            mine = [place] if place.base is None else [place, place.base]
            for one in mine:
                one.users -= 1
            close = self._over(*mine)
        for one in close:
            _close(one)


def _close(place: _Place) -> None:
    try:
        if place.base is not None and isinstance(place.base.model, LanguageModel):
            place.base.model.unload_adapter(place.model.name)
        if place.owned:
            place.model.close()
    finally:
        place.gone.set()
