"""What a payment's columns are, counted slowly; and that nothing comes from later."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bloomery.adapt.classic.transactions import DAY, HistoryConfig, Transactions, history, transaction_samples
from bloomery.core.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
N = 300
CONFIG = HistoryConfig(windows_days=(1, 5), delay_days=2)


def made() -> Transactions:
    seconds = np.sort(RNG.integers(0, 20 * DAY, N) // 7200 * 7200)  # many at the same time
    return Transactions(
        id=np.arange(N) + 1000,
        seconds=seconds,
        customer=RNG.integers(0, 12, N),
        terminal=RNG.integers(0, 9, N),
        amount=RNG.random(N) * 100,
        fraud=RNG.random(N) < 0.3,
    )


def test_windows_counted_slowly():
    every = made()
    found = history(every, CONFIG)
    for row in range(N):
        now = every.seconds[row]
        for days in (1, 5):
            before = np.arange(N) <= row
            ours = before & (every.customer == every.customer[row]) & (every.seconds > now - days * DAY)
            assert found[f"customer_count_{days}d"][row] == ours.sum()
            assert found[f"customer_mean_{days}d"][row] == pytest.approx(every.amount[ours].mean(), rel=1e-9)
            there = every.terminal == every.terminal[row]
            assert found[f"terminal_count_{days}d"][row] == (before & there & (every.seconds > now - days * DAY)).sum()
            old = every.seconds <= now - 2 * DAY
            known = there & old & (every.seconds > now - (2 + days) * DAY)
            share = every.fraud[known].mean() if known.any() else 0.0
            assert found[f"terminal_risk_{days}d"][row] == pytest.approx(share, abs=1e-9)


def test_nothing_comes_from_later():
    every = made()
    at = 150
    amount, fraud = every.amount.copy(), every.fraud.copy()
    amount[at + 1 :] *= 7
    unknown = every.seconds > every.seconds[at] - 2 * DAY  # labels that are not known when row 150 is paid
    fraud[unknown] = ~fraud[unknown]
    other = history(replace(every, amount=amount, fraud=fraud), CONFIG)
    for name, column in history(every, CONFIG).items():
        # Sums run over all rows: they differ by rounding.
        before = np.append(np.flatnonzero(~unknown[:at]), at)
        np.testing.assert_allclose(column[before], other[name][before], atol=1e-9, err_msg=name)


def test_nights_and_weekends():
    seconds = np.array([0, 7 * 3600, 4 * DAY + 23 * 3600, 5 * DAY, 6 * DAY + 5 * 3600, 7 * DAY + 12 * 3600])
    zeros = np.zeros(6, dtype=np.int64)
    every = Transactions(zeros, seconds, zeros, zeros, zeros.astype(float), zeros.astype(bool))
    found = history(every)
    assert found["night"].tolist() == [1, 0, 0, 1, 1, 0]
    assert found["weekend"].tolist() == [0, 0, 0, 1, 1, 0]


def test_without_risk_no_label_is_used():
    every = made()
    config = replace(CONFIG, terminal_risk=False)
    found, other = history(every, config), history(replace(every, fraud=~every.fraud), config)
    assert not [name for name in found if "risk" in name]
    assert all((found[name] == other[name]).all() for name in found)


def test_samples():
    every = made()
    columns = history(every, CONFIG)
    (sample,) = transaction_samples(every, columns, [7])
    assert sample.id == "1007" and sample.cluster == str(every.customer[7])
    assert sample.targets == (("fraud",) if every.fraud[7] else ("legitimate",))
    assert sample.metadata["amount"] == pytest.approx(every.amount[7], abs=1e-6)
    assert "fraud" not in sample.input and "terminal risk 5d" in sample.input


def test_what_cannot_be_meant():
    every = made()
    with pytest.raises(DataError, match="order"):
        replace(every, seconds=every.seconds[::-1])
    with pytest.raises(DataError, match="length"):
        replace(every, amount=every.amount[1:])
    with pytest.raises(ConfigError):
        HistoryConfig(delay_days=0)


@pytest.mark.slow
def test_the_simulated_transactions_of_the_book(shared_data):
    """The file's own columns: its days since April are ours, and a terminal's compromise is seen in its risk."""
    import csv
    import lzma
    from datetime import UTC, datetime

    path = shared_data / "classify" / "fraud_transactions_2018-06-01_2018-07-17.csv.xz"
    with lzma.open(path, "rt") as stream:
        rows = [row for _, row in zip(range(120_000), csv.DictReader(stream), strict=False)]
    monday = datetime(2018, 5, 28, tzinfo=UTC)
    stamps = [datetime.fromisoformat(row["TX_DATETIME"]).replace(tzinfo=UTC) for row in rows]
    every = Transactions(
        id=np.array([int(row["TRANSACTION_ID"]) for row in rows]),
        seconds=np.array([int((one - monday).total_seconds()) for one in stamps]),
        customer=np.array([int(row["CUSTOMER_ID"]) for row in rows]),
        terminal=np.array([int(row["TERMINAL_ID"]) for row in rows]),
        amount=np.array([float(row["TX_AMOUNT"]) for row in rows]),
        fraud=np.array([row["TX_FRAUD"] == "1" for row in rows]),
    )
    days = np.array([int(row["TX_TIME_DAYS"]) for row in rows])
    assert (every.seconds // DAY - days == 4 - 61).all()  # 1 June is day 61 of the file, and a Friday
    scenario = np.array([row["TX_FRAUD_SCENARIO"] for row in rows])
    risk = history(every)["terminal_risk_7d"]
    late = days >= days.min() + 9
    assert risk[late & (scenario == "2")].mean() > 10 * risk[late & (scenario == "0")].mean()
