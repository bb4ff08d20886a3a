"""What labels cost, against sums by hand; unknown stays unknown."""

from __future__ import annotations

import pytest

from bloomery.core.quantity import Quantity
from bloomery.corpus.annotation.cost import costs
from bloomery.corpus.annotation.store import Annotation


def one(item: str, *, by: str = "m", kind="model", value="a", **more) -> Annotation:
    return Annotation(item=item, annotator=by, kind=kind, value=value, **more)


MEASURED = {
    "seconds": 2.0,
    "prompt_tokens": 100,
    "completion_tokens": 4,
    "money": 0.5,
    "currency": "EUR",
    "energy_joules": Quantity(low=1.0, central=2.0, high=3.0, method="sampled"),
}


def test_sums_and_shares():
    found = costs([one("1", **MEASURED), one("2", **MEASURED), one("3", value=None, **MEASURED)])[0].to_dict()
    assert (found["asked"], found["labels"], found["currency"]) == (3, 2, "EUR")
    assert (found["seconds"], found["prompt_tokens"], found["money"]) == (6.0, 300, 1.5)
    assert found["energy_joules"] == {"low": 3.0, "central": 6.0, "high": 9.0, "method": "sampled"}
    assert found["per_label"]["seconds"] == 3.0 and found["per_label"]["energy_joules"]["central"] == 3.0


def test_what_was_not_measured_once_is_unknown_in_all():
    found = costs([one("1", **MEASURED), one("2")])[0].to_dict()
    assert [found[name] for name in ("seconds", "prompt_tokens", "completion_tokens", "money")] == [None] * 4
    assert found["energy_joules"]["method"] == "unknown" and found["per_label"]["money"] is None


def test_two_answers_to_one_document_are_one_label_and_cost_twice():
    found = costs([one("1", **MEASURED), one("1", **MEASURED)])[0]
    assert (found.labels, found.asked, found.seconds) == (1, 2, 4.0)


def test_an_hour_of_a_person():
    person = one("1", by="anna", kind="person", seconds=36.0)
    assert costs([person], hour_price=20.0, currency="EUR")[0].money == pytest.approx(0.2)
    assert costs([person])[0].money is None
    assert costs([one("1", by="anna", kind="person")], hour_price=20.0)[0].money is None


def test_two_currencies_do_not_add_up():
    found = costs([one("1", **MEASURED), one("2", **{**MEASURED, "currency": "USD"})])[0]
    assert found.money is None


def test_nobody():
    assert costs([]) == [] and costs([one("1", value=None)])[0].to_dict()["per_label"]["seconds"] is None
