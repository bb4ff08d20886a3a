"""`bloomery energy`: joules, carbon and cost of all that was done. This module does not know how joules are read."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, print_json
from bloomery.core.quantity import Quantity


def energy(
    *,
    country: Annotated[str, Parameter(help="Two letters, such as FR [default: the world's average].")] = "",
    grams_per_kwh: Annotated[float | None, Parameter(help="Your own carbon intensity, g CO2e per kWh.")] = None,
    price_per_kwh: Annotated[float | None, Parameter(help="Your price of a kWh.")] = None,
    currency: Annotated[str, Parameter(help="Of the price.")] = "EUR",
    common: Common | None = None,
) -> None:
    """Joules, carbon and cost by stage, failed attempts and served requests included."""
    common = common or Common()
    from bloomery.energy import EnergyConfig, describe_meters, footprint

    config = EnergyConfig(country=country, grams_per_kwh=grams_per_kwh, price_per_kwh=price_per_kwh, currency=currency)
    rows = [
        {**{k: row[k] for k in ("what", "count", "seconds", "unknown")}, **footprint(row["joules"], config).to_dict()}
        for row in _totals(common)
    ]
    if common.json:
        print_json({"rows": rows, "meters": describe_meters()})
        return
    if not rows:
        print("nothing has been run yet; begin with: bloomery demo")
        return
    for row in rows:
        parts = [Quantity.from_dict(row["joules"]).text("J"), Quantity.from_dict(row["gco2e"]).text("g CO2e")]
        if price_per_kwh is not None:
            parts.append(Quantity.from_dict(row["cost"]).text(currency))
        missing = f"; {row['unknown']} of unknown energy left out" if row["unknown"] else ""
        print(f"{row['what']:22} {row['count']:5}  {row['seconds']:9.1f} s  {'; '.join(parts)}{missing}")
    print(f"carbon intensity: {rows[0]['source']}")
    for name, text in describe_meters().items():
        print(f"{name}: {'; '.join(text) if isinstance(text, list) else text}")


def _totals(common: Common) -> list[dict[str, Any]]:
    """One row for each stage's finished and failed runs, one for requests, one for all."""
    ledger = common.workspace().ledger
    groups: dict[str, list[tuple[float, Quantity]]] = {}
    for run in reversed(ledger.runs(limit=1_000_000)):
        if run["state"] == "running":
            continue
        name = run["stage"] + (", failed" if run["state"] == "failed" else "")
        groups.setdefault(name, []).append((run["seconds"] or 0.0, Quantity.from_dict(run["energy_joules"])))
    requests = ledger.requests(limit=1_000_000)
    if requests:
        groups["requests"] = [(r["seconds"], Quantity.from_dict(r["energy_joules"])) for r in requests]
    if groups:
        groups["all"] = [entry for group in list(groups.values()) for entry in group]
    return [_sum(name, entries) for name, entries in groups.items()]


def _sum(name: str, entries: list[tuple[float, Quantity]]) -> dict[str, Any]:
    """The known energies added up, and how many are unknown: a total would hide them."""
    known = [joules for _, joules in entries if joules.known]
    total = known[0] if known else Quantity.unknown()
    for joules in known[1:]:
        total = total + joules
    return {
        "what": name,
        "count": len(entries),
        "seconds": sum(seconds for seconds, _ in entries),
        "joules": total,
        "unknown": len(entries) - len(known),
    }
