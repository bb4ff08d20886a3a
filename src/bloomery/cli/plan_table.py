"""Tables of a plan and of the scores of plans, for people. This module does not know how either was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.quantity import Quantity

_NAMES = {"seconds": "time", "step_seconds": "a step", "joules": "energy", "bits_per_byte": "bits per byte"}
_SCORES_WIDTH = 120  # a line that a narrow terminal breaks is still whole; a figure that is cut off is not


def show_plan(plan: Mapping[str, Any]) -> None:
    """The plan with an interval beside each number, its neighbours, and why."""
    from rich.console import Console
    from rich.table import Table

    model = plan["model"]
    console = Console()
    if "calibration" in plan:
        console.print(_calibration(plan["calibration"]))
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    for name, text in _rows(plan, model):
        table.add_row(name, text)
    console.print(f"plan: {model['num_hidden_layers']} layers x {model['hidden_size']} for {_budget(plan)}")
    console.print(table)
    console.print(_neighbours(plan))
    for reason in plan["reasons"]:
        print(f"- {reason}")
    if "artifact" in plan:
        print(f"bloomery pretrain --plan {plan['artifact']}")


def _budget(plan: Mapping[str, Any]) -> str:
    kind, amount = next((name, value) for name, value in plan["budget"].items() if value)
    unit = plan["currency"] if kind == "money" else kind.replace("_", " ")
    return f"{amount:g} {unit}"


def _rows(plan: Mapping[str, Any], model: Mapping[str, Any]) -> list[tuple[str, str]]:
    own = {name: value for name, value in plan["learning_rates"].items() if value}  # 0: that of another group
    rates = ", ".join(f"{name.removesuffix('_lr')} {value:g}" for name, value in own.items())
    parts = "" if plan["micro_rows"] == plan["batch_rows"] else f", {plan['micro_rows']} rows at a time"
    seconds = Quantity.from_dict(plan["seconds"])
    return [
        ("vocabulary", f"{model['vocab_size']:,}"),
        (
            "size",
            f"{model['num_hidden_layers']} layers, hidden {model['hidden_size']}, {model['num_attention_heads']} heads"
            f" ({model['num_key_value_heads']} of keys), feed-forward {model['intermediate_size']}:"
            f" {plan['parameters']:,} parameters",
        ),
        ("tokens", f"{plan['tokens']:,} in {plan['steps']:,} steps, {plan['epochs']:.2f} passes over the corpus"),
        ("batch", f"{plan['batch_rows']} x {plan['context_length']} tokens{parts}"),
        ("learning rates", rates),
        ("precision", plan["precision"] + (", compiled" if plan["compiled"] else "")),
        ("memory", f"{_scaled(plan['memory_bytes'], 1e-9, 'GB')}; {plan['available_bytes'] / 1e9:.3g} GB free"),
        ("time", f"{seconds.scaled(1 / 60).text('min')}; {plan['seconds_per_step']:.3g} s a step"),
        ("of which", _components(plan["components"])),
        ("energy", f"{_scaled(plan['joules'], 1, 'J')}"),
        ("carbon", _scaled(plan["gco2e"], 1, "g CO2e")),
        ("cost", _scaled(plan["cost"], 1, plan["currency"])),
        ("expected", Quantity.from_dict(plan["predicted_bits_per_byte"]).text("bits per byte", digits=4)),
    ]


def _components(parts: Mapping[str, float]) -> str:
    """Each part of the time and its share, the longest first; what takes none is left out."""
    total = sum(parts.values())
    shown = sorted(((value, name) for name, value in parts.items() if value > 0), reverse=True)
    return ", ".join(f"{name} {value:.3g} s ({value / total:.0%})" for value, name in shown) or "unknown"


def _scaled(quantity: Mapping[str, Any], factor: float, unit: str) -> str:
    return Quantity.from_dict(quantity).scaled(factor).text(unit)


def _calibration(law: Mapping[str, Any]) -> Any:
    """The runs of the ladder and what the law makes of them."""
    from rich.table import Table

    constants = ", ".join(
        f"{name} {law[name]:.3g} ({low:.3g} to {high:.3g})" for name, (low, high) in law["intervals_90"].items()
    )
    table = Table(title=f"{law['artifact']}: {constants}", title_justify="left", box=None, pad_edge=False)
    table.add_column("matrix parameters", justify="right")
    for name in ("steps", "bytes read", "bits per byte", "law", "off"):
        table.add_column(name, justify="right")
    for run in law["runs"]:
        numbers = (f"{run['bits_per_byte']:.3f}", f"{run['law']:.3f}", f"{run['off']:+.1%}")
        table.add_row(f"{run['parameters']:,}", f"{run['steps']:,}", f"{run['bytes_seen']:,.0f}", *numbers)
    return table


def _neighbours(plan: Mapping[str, Any]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("for the same budget")
    for name in ("parameters", "steps", "seconds", "bits per byte", "from", "to"):
        table.add_column(name, justify="right")
    own = {
        **plan,
        "num_hidden_layers": plan["model"]["num_hidden_layers"],
        "hidden_size": plan["model"]["hidden_size"],
        "seconds": plan["predicted_seconds"],
        "name": "this plan",
    }
    for row in sorted([*plan["alternatives"], own], key=lambda row: row["parameters"]):
        expected = Quantity.from_dict(row["predicted_bits_per_byte"])
        numbers = (expected.central, expected.low, expected.high)
        table.add_row(
            f"{row['name']}: {row['num_hidden_layers']} x {row['hidden_size']}",
            f"{row['parameters']:,}",
            f"{row['steps']:,}",
            f"{row['seconds']:.0f}",
            *("unknown" if value is None else f"{value:.3f}" for value in numbers),
            style="bold" if row is own else "",
        )
    return table


def show_scores(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Mapping[str, Any]]) -> None:
    """Every finished run against its plan, and the median errors."""
    from rich.console import Console
    from rich.table import Table

    if not rows:
        print("no finished run has a plan to compare with yet; begin with: bloomery pretrain")
        return
    title = "what happened, and how far the plan was off"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in ("shape", "steps", "s", "off", "s a step", "off", "J", "off", "bits", "off"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("law", no_wrap=True)
    for row in rows:
        shape = f"{row['num_hidden_layers']} x {row['hidden_size']}"
        cells = [cell for name in _NAMES for cell in _score(row[name])]
        law = "own" if row["calibrated"] else "default"
        table.add_row(row["model"].removeprefix("model-"), shape, _steps(row), *cells, law)
    console = Console()
    console.width = max(console.width, _SCORES_WIDTH)
    console.print(table)
    for name, text in _NAMES.items():
        of = summary[name]
        if of["median_error"] is not None:
            print(
                f"{text}: median error {of['median_error']:.1%}, largest {of['largest_error']:.1%}, within the interval"
                f" in {of['within_interval']:.0%} of {of['runs']} runs"
            )


def _steps(row: Mapping[str, Any]) -> str:
    """Those taken, and beside them those planned where they were others."""
    taken, planned = row["steps"], row["planned_steps"]
    return f"{taken:,}" if taken == planned else f"{taken:,} of {planned:,}"


def _score(one: Mapping[str, Any]) -> tuple[str, str]:
    actual = one["actual"]
    shown = "?" if actual is None else f"{actual:.4g}"
    return shown, "?" if one["error"] is None else f"{one['error']:+.1%}"
