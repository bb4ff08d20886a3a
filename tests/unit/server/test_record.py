"""Record: counts, prompts as text, and readers of which none can stop the others."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ArtifactError
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.server.record import Record, ledger_reader, tell

RECORD = Record(
    id="cmpl-1", route="/v1/completions", model="m", tenant="alice", status=200, time=0.0, seconds=2.0,
    prompt_ids=[[1, 2], [3]], completion_tokens=5, energy=Quantity.exact(3.0, "counter"),
    decode=lambda ids, special: "-".join(map(str, ids)),
)  # fmt: skip


def test_counts_and_texts():
    assert RECORD.prompt_tokens == 3 and RECORD.prompts() == ["1-2", "3"] and RECORD.finish_reasons == []


@pytest.mark.parametrize("error", [ArtifactError("disk", hint="free some"), ValueError("bug")])
def test_every_reader_is_told_whatever_another_does(error: Exception, workspace: Workspace, caplog):
    def breaks(record: Record) -> None:
        raise error

    seen: list[Record] = []
    tell([breaks, seen.append, ledger_reader(workspace.ledger)], RECORD)
    assert seen == [RECORD] and "cmpl-1" in caplog.text and str(error) in caplog.text
    (row,) = workspace.ledger.requests()
    assert (row["id"], row["tenant"], row["prompt_tokens"], row["completion_tokens"]) == ("cmpl-1", "alice", 3, 5)
    assert row["energy_joules"]["central"] == 3.0
