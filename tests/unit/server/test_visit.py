"""Visit: over once everybody who holds it is done."""

from __future__ import annotations

from bloomery.core.quantity import Quantity
from bloomery.server.allowance import Allowance, Limits
from bloomery.server.tenant import Tenant
from bloomery.server.visit import Visit


def test_the_last_holder_ends_it_once():
    visit, over = Visit(), []
    visit.on_end(lambda: over.append("first"))
    visit.on_end(lambda: over.append("second"))
    release = visit.hold()
    visit.end()
    assert over == []
    release()
    release()
    assert over == ["second", "first"]  # as a stack: what came last goes first


def test_one_ending_that_fails_does_not_keep_the_others(caplog):
    visit, over = Visit(), []
    visit.on_end(lambda: over.append(True))
    visit.on_end(lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    visit.end()
    assert over == [True] and "ZeroDivisionError" in caplog.text


def test_tokens_come_out_of_the_tenants_allowance():
    allowance = Allowance(Limits(tokens_per_minute=10), clock=lambda: 0.0)
    visit = Visit(tenant=Tenant(name="a", allowance=allowance))
    visit.spend(prompt=3)
    visit.spend(completion=2)
    assert (visit.prompt_tokens, visit.completion_tokens) == (3, 2)
    assert allowance.headers()["x-ratelimit-remaining-tokens"] == "5"


def test_joules_add_up():
    visit = Visit()
    assert visit.energy is None
    visit.spend_energy(Quantity.exact(1.0, "counter"))
    visit.spend_energy(Quantity.exact(2.0, "counter"))
    assert visit.energy is not None and visit.energy.central == 3.0


def test_it_is_written_down_once_before_its_answer_is_whole():
    visit, told, busy = Visit(), [], [True]
    visit.write_down(lambda: told.append("written"))
    visit.on_end(lambda: told.append("over"))
    visit.works_while(lambda: busy[0])
    visit.answered()
    assert told == []  # what the thread still spends belongs into the line
    busy[0] = False
    visit.answered()
    visit.answered()
    assert told == ["written"]
    visit.end()
    assert told == ["written", "over"]
    alone = Visit()
    alone.write_down(lambda: told.append("at the end"))
    alone.end()
    assert told[2:] == ["at the end"]
