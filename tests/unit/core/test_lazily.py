"""Lazily: names come from their modules when they are used, and all that a floor promises is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bloomery.engine
from bloomery.core.lazily import lazily


def test_a_name_is_loaded_once_from_its_module(monkeypatch: pytest.MonkeyPatch):
    load = lazily("bloomery.core", {"quantity": "Quantity", "errors": "DataError ConfigError"})
    import bloomery.core
    from bloomery.core.errors import ConfigError

    monkeypatch.setattr(bloomery.core, "ConfigError", None, raising=False)  # taken back afterwards
    assert load("ConfigError") is ConfigError and bloomery.core.ConfigError is ConfigError  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"bloomery\.core.* no attribute .Nothing."):
        load("Nothing")


def test_a_name_that_a_module_would_hide_is_refused():
    with pytest.raises(ValueError, match="errors is a module too"):
        lazily("bloomery.core", {"errors": "DataError errors"})


def test_all_that_the_engine_promises_is_there():
    assert all(getattr(bloomery.engine, name) is not None for name in bloomery.engine.__all__)


def test_a_language_model_is_loaded_without_what_reads_documents_and_images():
    code = "import sys; from bloomery.engine import load_language_model; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "bloomery.engine.language_model" in loaded
    assert not {"bloomery.corpus", "bloomery.engine.exchange", "bloomery.engine.classifier", "PIL"} & set(loaded)
