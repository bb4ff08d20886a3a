"""`bloomery plan`."""

from __future__ import annotations

import json


def test_plan_as_json_and_text(call, tiny):
    made = json.loads(call("plan", "--home", str(tiny.home), "--json", "--quiet", *tiny.sizes).out)
    assert made["steps"] == 4 and made["model"]["hidden_size"] == 64
    assert made["predicted_bits_per_byte"]["method"] == "estimated"
    text = call("plan", "--home", str(tiny.home), "--quiet", *tiny.sizes).out
    assert text.startswith("plan: 1 layers x 64")


def test_no_minutes(call, tiny):
    assert "minutes" in call.mistake("plan", "--minutes", "0", "--home", str(tiny.home), "--quiet")
