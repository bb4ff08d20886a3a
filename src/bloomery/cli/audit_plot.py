"""An audit as a picture: the premium of every language, a mark a tokenizer, on a logarithmic axis.

The same audit gives the same bytes of SVG. This module does not know how the numbers are made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bloomery.core.artifact import disk_errors
from bloomery.core.errors import ConfigError

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito's
_MARKS = "osD^vPX"
_ROW_INCHES = 0.19


def write_premiums(data: Mapping[str, Any], path: Path) -> None:
    """SVG, PNG or PDF, by the file's name: languages in the order of the first tokenizer's premiums, their 95%
    intervals as lines. ConfigError if no language has a premium, ArtifactError if the file cannot be written."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    order = [row["language"] for row in data["tokenizers"][0]["languages"] if row["premium"]]
    if not order:
        raise ConfigError("no language has a premium to draw", hint="the texts should hold the same sentences")
    scripts = {row["language"]: row["script"] for row in data["tokenizers"][0]["languages"]}
    with mpl.rc_context({"svg.hashsalt": "bloomery", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 1.4 + _ROW_INCHES * len(order)), layout="constrained")
        axes = figure.subplots()
        for place, one in enumerate(data["tokenizers"]):
            rows = {row["language"]: row for row in one["languages"]}
            known = [(y, rows[language]) for y, language in enumerate(order) if rows[language]["premium"]]
            values = [row["premium"] for _, row in known]
            ends = [[row["premium"] - (row["premium_low"] or row["premium"]) for _, row in known]]
            ends.append([(row["premium_high"] or row["premium"]) - row["premium"] for _, row in known])
            colour, mark = _COLOURS[place % len(_COLOURS)], _MARKS[place % len(_MARKS)]
            drawn = {"fmt": mark, "ms": 4, "elinewidth": 0.8, "color": colour, "label": one["name"]}
            axes.errorbar(values, [y for y, _ in known], xerr=ends, **drawn)
        labels = [f"{language}  {scripts[language]}" for language in order]
        axes.set_yticks(range(len(order)), labels, fontsize=7)
        for text in axes.get_yticklabels():
            text.set_parse_math(False)
        axes.set_ylim(-0.7, len(order) - 0.3)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axvline(1.0, color="#999999", linewidth=0.8)
        axes.grid(axis="x", color="#e5e5e5", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(f"tokens for what {data['reference']} says with one")
        legend = axes.legend(loc="lower right", fontsize=8)
        for text in legend.get_texts():
            text.set_parse_math(False)
        with warnings.catch_warnings(), disk_errors(f"cannot write {path}"):
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a box stands for such a character
            still = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower(), {})
            figure.savefig(path, dpi=120, metadata=still)
