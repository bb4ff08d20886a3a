"""The tables of plans show every number with its bounds, and unknown ones as unknown."""

from __future__ import annotations

from bloomery.cli.plan_table import show_plan, show_scores
from bloomery.core.quantity import Quantity

KNOWN = Quantity(low=1.0, central=2.0, high=3.0, method="estimated").to_dict()
UNKNOWN = Quantity.unknown().to_dict()
PLAN = {
    "model": {
        "vocab_size": 4096,
        "num_hidden_layers": 2,
        "hidden_size": 128,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 320,
    },
    "budget": {"minutes": 0.0, "money": 2.0},
    "currency": "CHF",
    "batch_rows": 16,
    "micro_rows": 4,
    "context_length": 256,
    "steps": 1000,
    "tokens": 4_096_000,
    "epochs": 1.5,
    "precision": "bfloat16",
    "compiled": True,
    "parameters": 1_234_567,
    "learning_rates": {"matrix_lr": 0.02},
    "memory_bytes": KNOWN,
    "available_bytes": 8e9,
    "seconds": KNOWN,
    "predicted_seconds": 2.0,
    "seconds_per_step": 0.5,
    "components": {"start": 0.5, "steps": 1.0, "evaluation": 0.3, "checkpoints": 0.2, "compiling": 0.0},
    "joules": UNKNOWN,
    "gco2e": UNKNOWN,
    "cost": KNOWN,
    "predicted_bits_per_byte": KNOWN,
    "alternatives": [
        {
            "name": "double",
            "num_hidden_layers": 3,
            "hidden_size": 192,
            "parameters": 2_400_000,
            "steps": 400,
            "seconds": 2.0,
            "predicted_bits_per_byte": KNOWN,
        }
    ],
    "reasons": ["because"],
    "artifact": "plan-0123456789ab",
    "calibration": {
        "artifact": "scaling_law-0123456789ab",
        "E": 0.8,
        "alpha": 0.34,
        "intervals_90": {"E": [0.6, 0.9], "alpha": [0.3, 0.4]},
        "runs": [
            {"parameters": 376832, "steps": 96, "bytes_seen": 1.28e5, "bits_per_byte": 2.5, "law": 2.45, "off": -0.02}
        ],
    },
}


def test_a_plan(capsys):
    show_plan(PLAN)
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "2 layers x 128 for 2 CHF",
        "1,234,567 parameters",
        "steps 1 s (50%), start 0.5 s (25%), evaluation 0.3 s (15%), checkpoints 0.2 s (10%)",
        "16 x 256 tokens, 4 rows at a time",
        "bfloat16, compiled",
        "energy unknown",
        "2 (1 to 3) CHF, estimated",
        "2 (1 to 3) bits per byte, estimated",
        "double: 3 x 192 2,400,000 400 2 2.000 1.000 3.000",
        "- because",
        "--plan plan-0123456789ab",
        "E 0.8 (0.6 to 0.9), alpha 0.34 (0.3 to 0.4)",
        "376,832 96 128,000 2.500 2.450 -2.0%",
    ):
        assert part in text


def test_scores(capsys):
    one = {"predicted": KNOWN, "actual": 1.6, "error": 0.25, "within": True}
    none = {"predicted": UNKNOWN, "actual": None, "error": None, "within": None}
    row = {"model": "model-1", "num_hidden_layers": 2, "hidden_size": 128, "calibrated": True, "planned_steps": 1000}
    step = {**one, "actual": 0.0123, "error": -0.2}
    of = {"runs": 1, "median_error": 0.25, "largest_error": 0.25, "within_interval": 1.0}
    nothing = {"runs": 0, "median_error": None, "largest_error": None, "within_interval": None}
    scored = {"seconds": one, "step_seconds": step, "joules": none, "bits_per_byte": one}
    show_scores(
        [{**row, **scored, "steps": 1200}, {**row, **scored, "steps": 1000}],
        {"seconds": of, "step_seconds": {**of, "median_error": 0.2}, "joules": nothing, "bits_per_byte": of},
    )
    text = capsys.readouterr().out
    assert "+25.0%" in text and "?" in text and "time: median error 25.0%" in text and "energy:" not in text
    assert "a step: median error 20.0%" in text
    longer, same = (" ".join(line.split()) for line in text.splitlines() if "2 x 128" in line)
    assert longer == "1 2 x 128 1,200 of 1,000 1.6 +25.0% 0.0123 -20.0% ? ? 1.6 +25.0% own"
    assert same.startswith("1 2 x 128 1,000 1.6")
