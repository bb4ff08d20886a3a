"""The report of a chain: what was made, how good it is, what it cost and where it came from, as one HTML file.

Self-contained: curves are inline SVG, no script, no address is fetched. `collect` gathers plain data, which
`--json` prints and `render` turns into HTML. This module does not know how stages work.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from importlib import resources
from typing import Any

from bloomery.core.artifact import Artifact
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.energy import EnergyConfig, footprint
from bloomery.evaluate import read_scores

STAGE_NAMES = {
    "curate": "corpus",
    "tokenizer": "tokenizer",
    "tokenize": "tokens",
    "pretrain": "pre-training",
    "measure": "measuring",
}


def collect(workspace: Workspace, made: Mapping[str, Artifact], energy: EnergyConfig) -> dict[str, Any]:
    """Everything the report shows, as JSON data; quantities are {low, central, high, method}."""
    model, corpus, tokens = made["pretrain"], made["curate"], made["tokenize"]
    return {
        "corpus": dict(corpus.metrics),
        "tokens": dict(tokens.metrics),
        "model": {"name": model.name, "path": str(model.path), **model.metrics},
        "scores": read_scores(made["measure"]),
        "costs": costs(made, energy),
        "lineage": [
            {"depth": depth, "id": identity, "name": found.name if found else "gone", **_origin(found)}
            for depth, identity, found in workspace.lineage(made["measure"])
        ],
        "code": model.manifest["code"],
    }


def costs(made: Mapping[str, Artifact], energy: EnergyConfig) -> list[dict[str, Any]]:
    """One row a stage and a last one for all: seconds, energy_joules, gco2e, failed attempts included."""
    rows = []
    total_seconds, total = 0.0, Quantity.exact(0.0, "counter")
    for name, artifact in made.items():
        seconds, joules = float(artifact.manifest["seconds"]), artifact.energy_joules
        rows.append(_cost(STAGE_NAMES.get(name, name), seconds, joules, energy))
        total_seconds, total = total_seconds + seconds, total + joules
    return [*rows, _cost("all", total_seconds, total, energy)]


def _cost(name: str, seconds: float, joules: Quantity, energy: EnergyConfig) -> dict[str, Any]:
    return {"stage": name, "seconds": seconds, **footprint(joules, energy).to_dict()}


def _origin(artifact: Artifact | None) -> dict[str, Any]:
    if artifact is None:
        return {"stage": "unknown", "seconds": None}
    return {"stage": artifact.manifest["stage"], "seconds": artifact.manifest["seconds"]}


def render(data: Mapping[str, Any]) -> str:
    """The HTML of what `collect` gave. Every value is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["quantity"] = lambda value, unit: Quantity.from_dict(value).text(unit)
    environment.filters["tint"] = _tint
    source = resources.files("bloomery.cli").joinpath("report.html.jinja").read_text(encoding="utf-8")
    from markupsafe import Markup

    return environment.from_string(source).render(**data, curve=Markup(loss_curve(data)))


def _tint(logprob: float) -> str:
    """A background colour by surprisal: white for certain, amber from about 6 bits on."""
    share = min(1.0, -logprob / math.log(2) / 6)
    return f"rgba(217,119,6,{0.55 * share:.2f})"


def loss_curve(data: Mapping[str, Any]) -> str:
    """Training and validation bits per byte against tokens seen, the baselines as lines: an SVG element."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    model, tokens = data["model"], data["tokens"]
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    to_bits = tokens["tokens"]["train"] / max(1, tokens["text_bytes"]["train"]) / math.log(2)
    losses, validations = model["loss_curve"], model["validation_curve"]
    if losses:
        axes.plot([p[1] for p in losses], [p[2] * to_bits for p in losses], color="#9ca3af", label="training")
    if validations:
        xs, ys = [p[1] for p in validations], [p[2] for p in validations]
        axes.plot(xs, ys, color="#b45309", marker="o", markersize=3, label="validation")
    for baseline, colour in zip(
        data["scores"]["baselines"], ("#2563eb", "#059669", "#7c3aed", "#64748b"), strict=False
    ):
        axes.axhline(baseline["bits_per_byte"], color=colour, linewidth=0.8, linestyle="--", label=baseline["name"])
    axes.set_xlabel("tokens seen")
    axes.set_ylabel("bits per byte")
    shown = [p[2] for p in validations] + [b["bits_per_byte"] for b in data["scores"]["baselines"]]
    if shown:
        axes.set_ylim(min(shown) * 0.9, max(shown) * 1.35)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
