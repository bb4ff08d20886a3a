"""`bloomery inspect lens`."""

from __future__ import annotations

import json
import math

import pytest

from bloomery.cli.inspect_lens import probability


@pytest.mark.parametrize(
    ("value", "expected"), [(0.25, "0.25"), (1.0, "1.00"), (0.006, "0.01"), (0.0042, "4.2e-03"), (3.1e-9, "3.1e-09")]
)
def test_a_small_probability_is_not_zero(value, expected):
    assert probability(math.log(value)) == expected
    assert probability(-math.inf) == "0.00"


def test_table_and_json(call, tiny):
    options = ("--text", "term1 term", "--home", str(tiny.home))
    view = json.loads(call("inspect", "lens", *options, "--json", "--top", "2").out)
    assert [layer["layer"] for layer in view["layers"]] == [-1, 0]
    assert view["layers"][-1]["answer_rank"] == 1 and len(view["layers"][0]["guesses"]) == 2
    lines = call("inspect", "lens", *options).out.splitlines()
    assert "logit lens at" in lines[0] and lines[2].startswith("before")
    assert "no position 50" in call.mistake("inspect", "lens", *options, "--position", "50")
