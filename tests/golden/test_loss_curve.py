"""The losses of a short run are those that were kept; a learning rate that is a hundredth off is seen."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "compare_loss_curves.py"


def _script():
    spec = importlib.util.spec_from_file_location("compare_loss_curves", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_curve_is_the_kept_one_and_a_wrong_rate_is_not():
    script = _script()
    kept = json.loads(script.KEPT.read_text(encoding="utf-8"))
    made = script.curve()
    assert not script.verdict(made, kept), "python experiments/compare_loss_curves.py --write if this is on purpose"
    assert made[-1] < 0.6 * made[0]
    assert "is the first that is off" in script.verdict(script.curve(rate=1.01), kept)
