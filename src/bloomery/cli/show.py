"""Tables for people: a plan, a scoreboard, costs and completions, written to stdout with rich.

This module does not know how any of it was made; it shows what `report.collect` gathered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.quantity import Quantity


def outcome_lines(metrics: Mapping[str, Any]) -> list[str]:
    """What was planned against what happened."""
    plan = metrics["plan"]
    expected = Quantity.from_dict(plan["predicted_bits_per_byte"])
    reached = metrics["validation_bits_per_byte"]
    took = metrics["plan_score"]["seconds"]["actual"]
    planned = f"planned {plan['predicted_seconds']:.0f} s, took {took or 0:.0f} s: "
    lines = [
        (planned if took is not None else "interrupted, or on ranks that it was not planned for: ")
        + f"{metrics['training_seconds']:.0f} s of steps at {metrics['tokens_per_second']:,.0f} tokens/s, "
        f"{metrics['validation_seconds']:.0f} s of validation, start and checkpoints the rest"
    ]
    if "utilisation" in metrics:
        from bloomery.training.utilisation import Utilisation

        used = Utilisation(done=metrics["flops_per_second"], peak=metrics["matrix_peak_flops"])
        lines.append(f"{used.text} (measured peak of matrix products)")
    if reached is not None:
        nats = metrics["validation_nats_per_token"]
        lines.append(
            f"expected {expected.text('bits per byte')}; validation reached {reached:.4f} ({nats:.4f} nats a token)"
        )
    return lines


def scoreboard(scores: Mapping[str, Any]) -> None:
    """The model among its baselines, best first."""
    from rich.console import Console
    from rich.table import Table

    score = scores["score"]
    title = f"bits per byte, {scores['split']} split ({score['documents']:,} documents, {score['text_bytes']:,} bytes)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("method")
    table.add_column("bits per byte", justify="right")
    table.add_column("what it knew")
    rows = [("this model", score["bits_per_byte"], "training split")]
    rows += [(b["name"], b["bits_per_byte"], b["sees"]) for b in scores["baselines"]]
    for name, value, sees in sorted(rows, key=lambda row: row[1]):
        table.add_row(name, f"{value:.4f}", sees, style="bold" if name == "this model" else "")
    Console().print(table)


def cost_table(costs: Sequence[Mapping[str, Any]]) -> None:
    """Seconds, joules with their method, and carbon of each stage."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="cost, failed attempts included", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage")
    for name in ("seconds", "joules", "low", "high", "g CO2e"):
        table.add_column(name, justify="right")
    table.add_column("method")
    for row in costs:
        joules, grams = Quantity.from_dict(row["joules"]), Quantity.from_dict(row["gco2e"])
        numbers = [_number(value) for value in (joules.central, joules.low, joules.high, grams.central)]
        style = "bold" if row["stage"] == "all" else ""
        table.add_row(row["stage"], f"{row['seconds']:.1f}", *numbers, joules.method, style=style)
    Console().print(table)
    print(f"carbon intensity: {costs[-1]['source']}")


def _number(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def completions(scores: Mapping[str, Any], *, shown_tokens: int = 12) -> None:
    """Each prompt with its completion, and the log-probabilities of the first tokens."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for completion in scores["completions"]:
        console.print(Text(completion["prompt"], style="dim") + Text(completion["text"]))
        tokens = completion["tokens"][:shown_tokens]
        line = " ".join(f"{t['text']!r} {t['logprob']:.2f}" for t in tokens)
        console.print(Text(f"  log-probabilities: {line}", style="dim"))
