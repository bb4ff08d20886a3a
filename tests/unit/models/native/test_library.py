"""The library: its structures are those of the sources, and one that is not there or of other sources is not used."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from bloomery.models.feed_forward import ACTIVATIONS as KNOWN
from bloomery.models.native import library as module
from bloomery.models.native.library import ACTIVATIONS, Layer, MatrixFields, Model, Norm, Step, library

KERNELS = ("AVX-512 VNNI", "AVX2", "portable")


def test_structures_are_as_large_as_in_the_sources(calls: ctypes.CDLL):
    sizes = (ctypes.c_int64 * 5)()
    calls.bloomery_sizes(sizes)
    assert list(sizes) == [ctypes.sizeof(one) for one in (Norm, Layer, Model, Step, MatrixFields)]


def test_every_activation_has_a_number():
    assert ACTIVATIONS.keys() == KNOWN.keys()


def test_it_says_which_kernels_it_has(calls: ctypes.CDLL):
    assert library().text in {f"native decode step, {name} kernels" for name in KERNELS}


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOOMERY_NATIVE", "off")
    assert library().calls is None and "BLOOMERY_NATIVE=off" in library().text


def test_where_it_was_not_built_the_text_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(module, "LIBRARY", tmp_path / "none.so")
    found = library()
    assert found.calls is None and "python -m bloomery.models.native.build" in found.text


def test_what_is_no_library_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = tmp_path / "odd.so"
    path.write_bytes(b"no library")
    monkeypatch.setattr(module, "LIBRARY", path)
    assert library().calls is None and "cannot be loaded" in library().text


def test_one_of_other_sources_is_not_used(calls: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "digest", lambda: "another")
    module._load.cache_clear()
    try:
        assert library().calls is None and "other sources" in library().text
    finally:
        module._load.cache_clear()
