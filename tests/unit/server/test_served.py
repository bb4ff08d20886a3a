"""ServedRequest: seeds of choices, usage, and a ledger row however it ends."""

from __future__ import annotations

import pytest

from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel
from bloomery.server.metrics import Metrics
from bloomery.server.record import ledger_reader
from bloomery.server.served import ServedRequest, new_id
from bloomery.server.waiting import CANCELLED_STATUS, WaitingRoom


@pytest.fixture
def served(tiny: LanguageModel, workspace: Workspace) -> ServedRequest:
    room = WaitingRoom(max_running=1, max_waiting=0)
    return ServedRequest(
        id=new_id("cmpl"),
        route="/v1/completions",
        model=tiny,
        prompts=[tiny.encode_prompt("Once"), tiny.encode_prompt("def smelt")],
        n=2,
        options={"max_new_tokens": 6, "seed": 2**63 - 1, "ignore_eos": True, "temperature": 2.0},
        job=room.enter(),
        metrics=Metrics(room),
        readers=[ledger_reader(workspace.ledger)],
    )


def test_choices_prompts_and_usage(served: ServedRequest, workspace: Workspace):
    texts: dict[int, str] = {}
    for choice, delta in served.run():
        texts[choice] = texts.get(choice, "") + delta.text
    assert sorted(texts) == [0, 1, 2, 3] and texts[0] != texts[1]
    usage = served.usage()
    assert usage["prompt_tokens"] == sum(map(len, served.prompts))
    assert usage["completion_tokens"] == 24
    (row,) = workspace.ledger.requests()
    assert (row["id"], row["status"], row["completion_tokens"]) == (served.id, 200, 24)


def test_a_cancelled_request_is_written_down_with_what_it_used(served: ServedRequest, workspace: Workspace):
    for _ in served.run():
        served.job.cancel.set()
    (row,) = workspace.ledger.requests()
    assert row["status"] == CANCELLED_STATUS
    assert row["completion_tokens"] == 4  # the first step reads both prompts: a token for each choice


def test_a_ledger_that_cannot_be_written_does_not_cost_the_answer(served: ServedRequest, workspace: Workspace, caplog):
    workspace.ledger.close()
    assert len(list(served.run())) > 4
    assert served.id in caplog.text
