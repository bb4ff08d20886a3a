"""Lazily: a package's public names, each loaded from its module when it is first used (PEP 562).

A module of the same name as one of the names would hide it as soon as somebody imports the module: that is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package whose `modules` have the names that stand beside them, a blank between two."""
    homes = {name: module for module, names in modules.items() for name in names.split()}
    if hidden := homes.keys() & modules.keys():
        raise ValueError(f"{package}.{min(hidden)} is a module too")

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, found)  # the next time nobody asks
        return found

    return load
