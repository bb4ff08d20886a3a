"""Transactions: what is known of a card payment at the moment it is made, as columns.

Windows of days over the customer's and the terminal's payments up to and including this one; a terminal's share of
frauds only from payments whose label is known by then: older than the delay (Le Borgne et al., 2022, chapter 3).
Nothing comes from later. This module does not know models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Sample

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
DAY = 86_400
LABELS = ("legitimate", "fraud")


@dataclass(frozen=True)
class Transactions:
    """Payments in the order of their time; (N,) each. DataError where the order or a length is another."""

    id: Ints
    seconds: Ints
    """Since a midnight with which a Monday began; days are 86,400 of them."""
    customer: Ints
    terminal: Ints
    amount: Floats
    fraud: NDArray[np.bool_]

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, name)) for name in self.__dataclass_fields__}
        if len(lengths) != 1:
            raise DataError(f"columns of transactions differ in length: {sorted(lengths)}")
        if (np.diff(self.seconds) < 0).any():
            raise DataError("transactions are in the order of their time", hint="sort them")

    def __len__(self) -> int:
        return len(self.id)


@dataclass(frozen=True, kw_only=True)
class HistoryConfig:
    """How far back is looked."""

    windows_days: tuple[int, ...] = (1, 7, 14)
    """Of customers and terminals."""
    delay_days: int = 7
    """Until a payment is known to be a fraud, or not."""
    terminal_risk: bool = True
    """With the terminals' share of frauds: labels of all payments before count as used."""

    def __post_init__(self) -> None:
        if not self.windows_days or min(self.windows_days) < 1 or self.delay_days < 1:
            raise ConfigError('"windows_days" and "delay_days" are 1 or more', hint="labels are known after some time")


def history(transactions: Transactions, config: HistoryConfig | None = None) -> dict[str, Floats]:
    """Columns (N,) by name: the amount, night, weekend, and for each window how many payments the customer made and how
    much each was on average, how many the terminal took, and which share of those whose label is known was a fraud."""
    config = config or HistoryConfig()
    seconds = transactions.seconds
    ones = np.ones(len(transactions))
    columns: dict[str, Floats] = {
        "amount": transactions.amount.astype(np.float64),
        "night": ((seconds % DAY) <= 6 * 3600).astype(np.float64),
        "weekend": ((seconds // DAY) % 7 >= 5).astype(np.float64),
    }
    for days in config.windows_days:
        count = _window(transactions.customer, seconds, ones, days * DAY)
        total = _window(transactions.customer, seconds, transactions.amount, days * DAY)
        columns[f"customer_count_{days}d"] = count
        columns[f"customer_mean_{days}d"] = total / count  # this payment is in it: never of none
        columns[f"terminal_count_{days}d"] = _window(transactions.terminal, seconds, ones, days * DAY)
        if config.terminal_risk:
            delay = config.delay_days * DAY
            known = _window(transactions.terminal, seconds, ones, days * DAY, delay=delay)
            frauds = _window(transactions.terminal, seconds, transactions.fraud.astype(float), days * DAY, delay=delay)
            columns[f"terminal_risk_{days}d"] = np.where(known > 0, frauds / np.maximum(known, 1), 0.0)
    return columns


def _window(group: Ints, seconds: Ints, values: Floats, length: int, *, delay: int | None = None) -> Floats:
    """(N,) the sum, for each row, of the values of its group in (time - length, time], up to the row itself; with a
    delay in (time - delay - length, time - delay]: never the row itself."""
    span = int(seconds.max() - seconds.min()) + length + (delay or 0) + 2
    _, codes = np.unique(group, return_inverse=True)
    since = seconds - seconds.min() + length + (delay or 0) + 1
    key = codes.astype(np.int64) * (span + length + (delay or 0) + 1) + since
    order = np.argsort(key, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(values[order])])
    ordered = key[order]
    if delay is None:
        end = np.empty(len(key), dtype=np.int64)
        end[order] = np.arange(1, len(key) + 1)  # itself, and of its time those that came before it
        start = np.searchsorted(ordered, key - length, side="right")
    else:
        end = np.searchsorted(ordered, key - delay, side="right")
        start = np.searchsorted(ordered, key - delay - length, side="right")
    return sums[end] - sums[start]


def transaction_samples(
    transactions: Transactions, columns: Mapping[str, Floats], rows: Sequence[int] | Ints
) -> list[Sample]:
    """Payments as labelled samples: columns as metadata, beside the day and the card; clusters are cards. The text says
    the same in words, for models that read."""
    made = []
    for row in np.asarray(rows, dtype=np.int64):
        figures = {name: round(float(values[row]), 6) for name, values in columns.items()}
        told = ", ".join(f"{name.replace('_', ' ')} {value:.6g}" for name, value in figures.items())
        card, day = int(transactions.customer[row]), int(transactions.seconds[row] // DAY)
        made.append(
            Sample(
                id=str(int(transactions.id[row])),
                input=f"Card payment: {told}.",
                targets=(LABELS[int(transactions.fraud[row])],),
                choices=LABELS,
                cluster=str(card),
                metadata={**figures, "card": card, "day": day},
            )
        )
    return made
