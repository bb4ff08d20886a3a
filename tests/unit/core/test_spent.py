"""What was spent adds up, and what was not told stays unknown."""

from __future__ import annotations

import json

from bloomery.core.quantity import Quantity
from bloomery.core.spent import Spent


def test_sums():
    one = Spent(requests=1, prompt_tokens=4, completion_tokens=1, operations=2.0, money=0.5)
    two = one.plus(Spent(seconds=3.0, joules=Quantity.exact(2.0, "counter"), processor_seconds=1.0))
    assert (two.requests, two.tokens, two.operations, two.money) == (1, 5, 2.0, 0.5)
    assert (two.seconds, two.processor_seconds, two.joules.central) == (3.0, 1.0, 2.0)
    assert [two.amount(name) for name in ("tokens", "joules", "seconds", "operations")] == [5, 2, 3, 2]
    assert Spent().plus(one) == one.plus(Spent()) == one


def test_what_was_not_told_is_no_zero():
    silent = Spent(prompt_tokens=None, joules=Quantity.unknown(), money=None)
    found = Spent(prompt_tokens=3, completion_tokens=2, money=1.0).plus(silent)
    assert found.tokens is None and found.money is None and found.completion_tokens == 2
    assert not found.joules.known and found.amount("joules") is None and found.amount("tokens") is None


def test_plain_data():
    spent = Spent(prompt_tokens=None, operations=1e12, joules=Quantity.unknown())
    told = json.loads(json.dumps(spent.to_dict()))
    assert Spent.from_dict(told) == spent and told["tokens"] is None
