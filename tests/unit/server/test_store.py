"""RequestStore: what is kept and what is not, searched and paged, bounded by age and number, for its owner's eyes."""

from __future__ import annotations

import resource
import sqlite3
import stat
import threading
import time
from pathlib import Path

import pytest

from bloomery.core.errors import ArtifactError, RequestError
from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, Timings
from bloomery.server.record import Record
from bloomery.server.store import MAX_FEEDBACK, RequestStore

JOULES = Quantity(low=1.0, central=2.0, high=3.0, method="estimated")


def record(number: int = 0, *, text: str = "an answer", **more) -> Record:
    answer = GenerationResult(
        text=text, token_ids=[7, 8], logprobs=[0.0, 0.0], finish_reason="stop", prompt_token_ids=[1, 2, 3], seed=0,
        timings=Timings(),
    )  # fmt: skip
    given = {
        "id": f"cmpl-{number}", "route": "/v1/completions", "model": "m", "tenant": "alice", "status": 200,
        "time": time.time(), "seconds": 1.5, "queue_seconds": 0.25, "first_token_seconds": 0.5,
        "prompt_ids": [[1, 2, 3]], "answers": [answer], "completion_tokens": 2, "prefill_seconds": 0.125,
        "decode_seconds": 0.75, "cached_tokens": 1, "energy": JOULES, "decode": lambda ids, special: f"prompt {number}",
    }  # fmt: skip
    return Record(**(given | more))


@pytest.fixture
def store(tmp_path: Path):
    kept = RequestStore(tmp_path / "home" / "requests.sqlite", content=True)
    yield kept
    kept.close()


def ids(rows: list[dict]) -> list[str]:
    return [row["id"] for row in rows]


def test_where_there_is_no_room_for_a_row_the_others_stay_and_later_ones_come(store: RequestStore):
    store.add(record(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(ArtifactError, match="disk") as caught:
            for number in range(1, 99):
                store.add(record(number, text="x" * 20_000))
        last = ids(store.find(limit=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.hint
    store.add(record(100))
    assert ids(store.find(limit=2)) == ["cmpl-100", *last] and store.get("cmpl-0")["prompts"]


def test_a_request_comes_back_whole(store: RequestStore):
    store.add(record())
    found = store.get("cmpl-0")
    assert found.pop("time") == pytest.approx(time.time(), abs=60)
    assert found == {
        "id": "cmpl-0", "tenant": "alice", "route": "/v1/completions", "model": "m", "status": 200,
        "finish_reasons": ["stop"], "prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1, "seconds": 1.5,
        "queue_seconds": 0.25, "first_token_seconds": 0.5, "prefill_seconds": 0.125, "decode_seconds": 0.75,
        "energy_joules": JOULES.to_dict(), "num_feedback": 0, "mean_score": None,
        "prompts": [{"text": "prompt 0", "token_ids": [1, 2, 3]}],
        "answers": [{"text": "an answer", "token_ids": [7, 8]}], "feedback": [],
    }  # fmt: skip


@pytest.mark.parametrize(("content", "private"), [(False, False), (True, True)])
def test_content_is_nowhere_in_the_files_unless_it_is_wanted(tmp_path: Path, content: bool, private: bool):
    path = tmp_path / "requests.sqlite"
    store = RequestStore(path, content=content)
    store.add(record(text="unmistakable", private=private, decode=lambda ids, special: "unmistakable"))
    found = store.get("cmpl-0")
    assert found["prompts"] is None and found["answers"] is None and found["completion_tokens"] == 2
    assert all(b"unmistakable" not in file.read_bytes() for file in tmp_path.iterdir())
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    store.close()


def test_search_by_text_model_tenant_and_time(store: RequestStore):
    now = time.time()
    store.add(record(1, text="100% of iron_ore", time=now - 100))
    store.add(record(2, model="other", time=now - 50, text="100 irons"))
    store.add(record(3, tenant="bob", text="half \ud800"))
    assert ids(store.find()) == ["cmpl-3", "cmpl-2", "cmpl-1"]
    assert ids(store.find(text="IRON")) == ["cmpl-2", "cmpl-1"]
    assert ids(store.find(text="100%")) == ids(store.find(text="iron_")) == ["cmpl-1"]
    assert ids(store.find(text="prompt 2")) == ids(store.find(model="other")) == ["cmpl-2"]
    assert ids(store.find(text="\\")) == [] and ids(store.find(text="\ud800")) == ["cmpl-3"]
    assert ids(store.find(tenant="bob")) == ["cmpl-3"]
    assert ids(store.find(since=now - 100, until=now - 50)) == ["cmpl-1"]


def test_pages(store: RequestStore):
    for number in range(7):
        store.add(record(number, tenant="alice" if number % 2 else "bob"))
    first = ids(store.find(limit=3))
    second = ids(store.find(limit=3, after=first[-1]))
    assert first + second + ids(store.find(after=second[-1])) == [f"cmpl-{n}" for n in range(6, -1, -1)]
    assert ids(store.find(tenant="alice", after="cmpl-5")) == ["cmpl-3", "cmpl-1"]
    for after, tenant in (("nobody", None), ("cmpl-4", "alice")):
        with pytest.raises(RequestError) as caught:
            store.find(after=after, tenant=tenant)
        assert caught.value.status == 404


def test_feedback_of_those_who_may(store: RequestStore):
    store.add(record())
    store.add_feedback("cmpl-0", score=1.0, comment="good \ud800", by="alice", tenant="alice")
    store.add_feedback("cmpl-0", score=-0.5, by="root")
    with pytest.raises(RequestError, match="no request"):
        store.add_feedback("cmpl-0", score=1.0, tenant="bob")
    found = store.get("cmpl-0", tenant="alice")
    assert [(f["tenant"], f["score"], f["comment"]) for f in found["feedback"]] == [
        ("alice", 1.0, "good ?"), ("root", -0.5, "")
    ]  # fmt: skip
    assert (found["num_feedback"], found["mean_score"]) == (2, 0.25)
    for _ in range(MAX_FEEDBACK - 2):
        store.add_feedback("cmpl-0", score=0.0)
    with pytest.raises(RequestError) as caught:
        store.add_feedback("cmpl-0", score=0.0)
    assert caught.value.status == 409


def test_bounds_of_number_and_age(tmp_path: Path):
    path = tmp_path / "requests.sqlite"
    day = 86_400.0
    store = RequestStore(path, content=True)
    for number in range(6):
        store.add(record(number, time=time.time() - (6 - number) * day, text=f"text-of-{number}"))
    store.add_feedback("cmpl-0", score=1.0)
    store.close()
    store = RequestStore(path, content=True, max_rows=3, max_days=4.5)
    assert ids(store.find()) == ["cmpl-5", "cmpl-4", "cmpl-3"]
    counts = [store._rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in ("requests", "texts", "feedback")]
    assert counts == [3, 6, 0]
    store._max_days = 1.5
    assert ids(store.find()) == ["cmpl-5"]  # too old is not shown, though it is still there
    with pytest.raises(RequestError):
        store.get("cmpl-4")
    for number in range(6, 6 + 64):
        store.add(record(number))
    assert store._rows("SELECT count(*) AS n FROM requests")[0]["n"] == 3
    store.close()
    assert b"text-of-0" not in path.read_bytes()  # overwritten, not only unlinked


class Clock:
    """`time` as the store sees it: what the clock on the wall shows, and what has passed."""

    CLOCK_BOOTTIME = 7

    def __init__(self) -> None:
        self.wall, self.passed = 1.8e9, 0.0

    def time(self) -> float:
        return self.wall

    def clock_gettime(self, _: int) -> float:
        return self.passed

    def pass_(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("bloomery.server.store.time", clock)
    return clock


DAY = 86_400.0


def aging(tmp_path: Path) -> RequestStore:
    return RequestStore(tmp_path / "requests.sqlite", max_days=30)


def test_a_clock_that_jumps_ahead_while_the_store_is_open_ages_nothing(tmp_path: Path, clock: Clock):
    store = aging(tmp_path)
    store.add(record(0, time=clock.wall - 40 * DAY))
    store.add(record(1, time=clock.wall))
    clock.wall += 3_650 * DAY
    store.add(record(2, time=clock.wall))
    assert store.prune() == 1 and ids(store.find()) == ["cmpl-2", "cmpl-1"]
    clock.wall -= 3_650 * DAY
    clock.pass_(31 * DAY)
    store.add(record(3, time=clock.wall))
    # What was written while the clock was wrong goes when something after it is too old.
    assert store.prune() == 1 and ids(store.find()) == ["cmpl-3", "cmpl-2"]
    clock.pass_(31 * DAY)
    assert store.prune() == 2 and ids(store.find()) == []


def test_a_clock_that_jumps_back_ages_nothing(tmp_path: Path, clock: Clock):
    store = aging(tmp_path)
    store.add(record(0, time=clock.wall))
    clock.wall -= 1.7e9
    store.add(record(1, time=clock.wall))
    clock.wall += 1.7e9
    assert store.prune() == 0 and ids(store.find()) == ["cmpl-1", "cmpl-0"]
    store.close()
    store = aging(tmp_path)  # what came after something young is young
    assert ids(store.find()) == ["cmpl-1", "cmpl-0"] and store.get("cmpl-1")
    clock.pass_(31 * DAY)
    assert store.prune() == 2


def test_a_store_that_is_all_too_old_when_it_is_opened_is_not_shown_and_deleted_an_hour_later(
    tmp_path: Path, clock: Clock
):
    store = aging(tmp_path)
    store.add(record(0, time=clock.wall))
    store.close()
    clock.wall += 3_650 * DAY  # the machine has started with a wrong clock,
    store = aging(tmp_path)
    assert ids(store.find()) == [] and store.prune() == 0
    clock.pass_(600)
    clock.wall -= 3_650 * DAY  # which is put right
    assert ids(store.find()) == ["cmpl-0"]
    store.close()
    clock.pass_(40 * DAY)  # it was off for long
    store = aging(tmp_path)
    assert ids(store.find()) == [] and store.prune() == 0
    clock.pass_(3_600)
    assert store.prune() == 1


def test_rows_are_never_changed(store: RequestStore):
    store.add(record())
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        store._db.execute("UPDATE requests SET tenant = 'mallory'")
    with pytest.raises(ArtifactError):
        store.add(record())  # the same id


def test_threads_add_at_once(store: RequestStore):
    work = [threading.Thread(target=lambda k=k: [store.add(record(k * 100 + n)) for n in range(25)]) for k in range(4)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(store.find(limit=1000)) == 100


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError):
        RequestStore(tmp_path / "file" / "requests.sqlite")
