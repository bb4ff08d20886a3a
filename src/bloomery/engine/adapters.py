"""Adapters: the LoRA adapters of a language model, by name; loaded, unloaded, merged while requests run.

A request keeps the adapter that it began with until it ends, whatever is unloaded meanwhile. This module does not know
how adapters are computed (see `models.adapted`) nor who asks for which.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from bloomery.core.errors import ConfigError, RequestError, nearest
from bloomery.engine.engine import Engine
from bloomery.models.adapted import AdaptedDecoder
from bloomery.models.adapter import Adapter, read_adapter
from bloomery.models.decoder import Decoder


class Adapters:
    """See the module. Safe to use from several threads."""

    def __init__(self, decoder: Decoder, *, inside: bool = False) -> None:
        """`inside`: the decoder is the language model of a larger one."""
        self._decoder, self._inside = decoder, inside
        self._adapted: AdaptedDecoder | None = None
        self._loaded: dict[str, Adapter] = {}
        self._lock = threading.Lock()

    @property
    def loaded(self) -> Mapping[str, Adapter]:
        """By name, in the order in which they came."""
        return dict(self._loaded)

    @property
    def merged(self) -> Adapter | None:
        """The one that is in the weights."""
        return None if self._adapted is None else self._adapted.merged

    def load(self, folder: str | Path, name: str | None, engine: Engine) -> Adapter:
        """Read one, between two steps of the engine. ConfigError for a name that is taken, DataError for files that do
        not fit."""
        folder = Path(folder).expanduser()
        name = folder.resolve().name if name is None else name
        with self._lock:
            if name in self._loaded:
                raise ConfigError(f"there is an adapter {name!r:.60} already", hint="unload it, or give another name")
            if self.merged is not None:
                raise _while_merged(self.merged)
            adapter = read_adapter(folder, self._decoder, name, inside=self._inside)
            with engine.paused():
                if self._adapted is None:
                    self._adapted = AdaptedDecoder(self._decoder)
                self._adapted.hook(adapter)
            self._loaded[name] = adapter
        return adapter

    def unload(self, name: str) -> Adapter:
        """Requests that have it go on with it; waits for nobody. ConfigError for the one that is merged."""
        adapter = self.get(name)  # without the lock: who loads has it for as long as reading and a step take
        if self.merged is adapter:
            raise ConfigError(f"{name} is merged into the weights", hint="unmerge it first")
        self._loaded.pop(name, None)
        assert self._adapted is not None
        self._adapted.forget()
        return adapter

    def get(self, name: str) -> Adapter:
        """RequestError, with the nearest known name."""
        adapter = self._loaded.get(name)
        if adapter is None:
            hint = nearest(name, self._loaded) if self._loaded else "load_adapter(folder, name=...)"
            raise RequestError(f"no adapter {name!r:.200}", hint=hint, param="adapter", code="adapter_not_found")
        return adapter

    def check(self, adapter: Adapter | None) -> None:
        """RequestError for an adapter on top of one that is merged."""
        if adapter is not None and self.merged is not None:
            raise RequestError(f"{self.merged.name} is merged into the weights", hint="unmerge it first")

    def merge(self, name: str, engine: Engine) -> None:
        """As `AdaptedDecoder.merge`; what was read of earlier texts is forgotten. ConfigError while requests run."""
        with self._lock, engine.paused(empty=True):
            adapter = self.get(name)
            assert self._adapted is not None
            self._adapted.merge(adapter)

    def unmerge(self, engine: Engine) -> None:
        """As `AdaptedDecoder.unmerge`."""
        with self._lock, engine.paused(empty=True):
            if self._adapted is None:
                raise ConfigError("no adapter is merged")
            self._adapted.unmerge()


def _while_merged(adapter: Adapter) -> ConfigError:
    return ConfigError(f"{adapter.name} is merged into the weights", hint="unmerge it first")
