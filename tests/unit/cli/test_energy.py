"""`bloomery energy`."""

from __future__ import annotations

import json

import pytest


def test_rows_add_up(call, tiny):
    report = json.loads(call("energy", "--json", "--country", "FR", "--home", str(tiny.home)).out)
    rows = {row["what"]: row for row in report["rows"]}
    parts = [row for name, row in rows.items() if name != "all"]
    assert rows["all"]["joules"]["central"] == pytest.approx(sum(r["joules"]["central"] for r in parts))
    assert rows["all"]["joules"]["low"] <= rows["all"]["joules"]["central"] <= rows["all"]["joules"]["high"]
    grams = rows["all"]["joules"]["central"] / 3.6e6 * 56.0
    assert rows["all"]["gco2e"]["central"] == pytest.approx(grams)
    assert rows["all"]["cost"]["method"] == "unknown"


def test_text_and_price(call, tiny):
    out = call("energy", "--price-per-kwh", "0.3", "--currency", "USD", "--home", str(tiny.home)).out
    assert "USD" in out and "g CO2e" in out and "world average" in out


def test_unknown_country(call, tiny):
    assert "XY" in call.mistake("energy", "--country", "XY", "--home", str(tiny.home))


def test_nothing_yet(call, tmp_path):
    assert "bloomery demo" in call("energy", "--home", str(tmp_path)).out
