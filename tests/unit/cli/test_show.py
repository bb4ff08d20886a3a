"""Tables for people."""

from __future__ import annotations

import pytest

from bloomery.cli import show
from bloomery.core.quantity import Quantity


def test_outcome_lines():
    expected = Quantity(low=1.0, central=1.5, high=2.0, method="estimated").to_dict()
    metrics = {
        "plan": {"predicted_seconds": 100.0, "predicted_bits_per_byte": expected},
        "validation_bits_per_byte": 1.6,
        "validation_nats_per_token": 4.0,
        "training_seconds": 98.0,
        "validation_seconds": 4.0,
        "tokens_per_second": 20000.0,
        "plan_score": {"seconds": {"actual": 105.0}},
    }
    assert show.outcome_lines(metrics)[0].startswith("planned 100 s, took 105 s: 98 s of steps at 20,000 tokens/s")
    assert show.outcome_lines(metrics)[1].endswith("validation reached 1.6000 (4.0000 nats a token)")
    assert len(show.outcome_lines({**metrics, "validation_bits_per_byte": None})) == 1
    used = {"utilisation": 0.71, "flops_per_second": 93.7e9, "matrix_peak_flops": 132e9}
    assert show.outcome_lines({**metrics, **used})[1].startswith("utilisation 71% of 132 GFLOP/s")


def test_scoreboard_is_sorted(capsys: pytest.CaptureFixture[str]):
    scores = {
        "split": "test",
        "score": {"bits_per_byte": 1.9, "documents": 3, "text_bytes": 1000},
        "baselines": [
            {"name": "a", "bits_per_byte": 2.5, "sees": "x"},
            {"name": "b", "bits_per_byte": 1.2, "sees": "y"},
        ],
        "completions": [{"prompt": "p", "text": " t[bold]", "tokens": [{"text": " t[bold]", "logprob": -0.5}]}],
    }
    show.scoreboard(scores)
    out = capsys.readouterr().out
    assert out.index("b ") < out.index("this model") < out.index("2.5000")
    show.completions(scores)
    out = capsys.readouterr().out
    assert "p t[bold]" in out and "-0.50" in out  # markup in a completion is text


def test_cost_table_says_unknown(capsys: pytest.CaptureFixture[str]):
    unknown = Quantity.unknown().to_dict()
    known = Quantity(low=1.0, central=2.0, high=1234.0, method="estimated").to_dict()
    rows = [
        {"stage": "corpus", "seconds": 1.0, "joules": known, "gco2e": known, "source": "s"},
        {"stage": "all", "seconds": 1.0, "joules": unknown, "gco2e": unknown, "source": "s"},
    ]
    show.cost_table(rows)
    out = capsys.readouterr().out
    assert "1,234" in out and "unknown" in out and "carbon intensity: s" in out
