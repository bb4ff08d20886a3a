"""Shelf: the models that a server has, by name, of several kinds; lent to requests and taken back.

A model that is taken off the shelf answers nobody new; it is let go when the last request that has it is over. This
module does not know HTTP or where models come from.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any

from bloomery.core.errors import ConfigError, RequestError, nearest
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.server.visit import Visit

Served = LanguageModel | TextEncoder


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
        self.users = 0
        self.leaving = False
        self.gone = threading.Event()


class Shelf:
    """Thread-safe. In the order in which models came; the first is what a route without a model name takes."""

    def __init__(self, models: Iterable[Served]) -> None:
        self._places: dict[str, _Place] = {}
        self._lock = threading.Lock()
        for model in models:
            self.add(model)

    def __len__(self) -> int:
        return len(self._present())

    def __contains__(self, name: str) -> bool:
        return name in self._present()

    def _present(self) -> dict[str, _Place]:
        return {name: place for name, place in self._places.items() if not place.leaving}

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
            for one in self._with_adapters(place):
                one.leaving = True
            close = self._over(place)
        for one in close:
            _close(one)
        return place.gone

    def keep(self, name: str) -> bool:
        """Lend again what was to be removed, if somebody still has it; False when it has gone."""
        with self._lock:
            place = self._places.get(name)
            if place is None:
                return False
            for one in self._with_adapters(place):
                one.leaving = False
            return True

    def _with_adapters(self, place: _Place) -> list[_Place]:
        """A model goes, and stays, with its adapters: they are its weights and a little more."""
        return [*(one for one in self._places.values() if one.base is place), place]

    def _over(self, place: _Place) -> list[_Place]:
        """What goes now that nobody has the place, or its base, any more: taken off, and to be closed."""
        root = place.base if place.base is not None and place.base.leaving else place
        if not root.leaving or root.users:
            return []
        going = self._with_adapters(root)
        for one in going:
            self._places.pop(one.model.name, None)
        return going

    def base(self, name: str | None) -> LanguageModel:
        """The language model that an adapter is for; None: the first. RequestError if there is none."""
        with self._lock:
            places = list(self._present().values()) if name is None else [self._place(name)]
        for place in places:
            if isinstance(place.model, LanguageModel) and place.base is None:
                return place.model
        what = "no language model" if name is None else f"{name!r:.200} is no language model"
        raise RequestError(what, hint="adapters are for language models", param="model", code="unsupported_model")

    def add_adapter(self, base: LanguageModel, name: str) -> None:
        """An adapter that the base has loaded, as a model of its own name. ConfigError for a name that is taken, and if
        the base is gone meanwhile."""
        with self._lock:
            place = self._present().get(base.name)
            if name in self._places or place is None or place.model is not base:
                raise ConfigError(f"there is a model {name!r} already, or none any more of {base.name!r}")
            self._places[name] = _Place(base.adapted(name), False, place)

    def adapters(self) -> list[str]:
        """The names of all adapters."""
        with self._lock:
            return [name for name, place in self._present().items() if place.base is not None]

    def clear(self) -> None:
        """Take all off."""
        for name in self._present():
            if name in self._present():  # adapters go with their model
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
            places = [place for place in self._present().values() if place.base is None]
        return [place.model for place in places]

    def describe(self, name: str | None = None) -> list[dict[str, Any]]:
        """OpenAI's model objects, of all or of one; `max_model_len` and `kind` are extensions, and an adapter's
        `parent`, as vLLM has it."""
        with self._lock:
            places = list(self._present().values()) if name is None else [self._place(name)]
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
        present = self._present()
        if name is None and present:
            return next(iter(present.values()))
        place = present.get(name or "")
        if place is None:
            hint = nearest(name, present) if name and len(name) < 200 else ""
            raise RequestError(f"no model {name!r:.200}", hint=hint, param="model", code="model_not_found", status=404)
        return place

    def _take_back(self, place: _Place) -> None:
        with self._lock:
            for one in [place] if place.base is None else [place, place.base]:
                one.users -= 1
            close = self._over(place)
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
