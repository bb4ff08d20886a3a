"""The report: complete, self-contained, and every value escaped."""

from __future__ import annotations

import re
from typing import Any

from bloomery.cli.report import collect, costs, loss_curve, render
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.energy import EnergyConfig


def _data(call, tiny) -> dict[str, Any]:
    from bloomery.cli.chain import SCHEMA, execute
    from bloomery.core.recipe import load_recipe

    sets = [o for o in tiny.sizes if o != "--set"]
    recipe = load_recipe(None, SCHEMA, [f'curate.sources=["{tiny.texts}"]', "curate.test_fraction=0.1", *sets])
    workspace = Workspace(tiny.home)
    made = execute(recipe, workspace)
    rows = costs(made, EnergyConfig(country="SE"))
    assert sum(r["seconds"] for r in rows[:-1]) == rows[-1]["seconds"]
    assert rows[-1]["gco2e"]["central"] is not None
    return collect(workspace, made, EnergyConfig())


def test_report(call, tiny):
    data = _data(call, tiny)
    data["scores"]["completions"][0]["prompt"] = "<script>alert(1)</script>"
    page = render(data)
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert page.count("<svg") == 1
    # Nothing is fetched: no addresses but the SVG's own namespaces.
    assert not re.findall(r'(?:src|href)="https?:', page.replace('xmlns:xlink="http://www.w3.org/1999/xlink"', ""))
    for row in data["lineage"]:
        assert row["name"] in page
    assert f"{data['scores']['score']['bits_per_byte']:.4f}" in page


def test_unknown_energy_is_said(call, tiny):
    data = _data(call, tiny)
    for row in data["costs"]:
        row["joules"] = row["gco2e"] = Quantity.unknown().to_dict()
    assert "unknown" in render(data)


def test_curve_without_validations(call, tiny):
    data = _data(call, tiny)
    data["model"]["validation_curve"] = []
    assert loss_curve(data).startswith("<svg")
