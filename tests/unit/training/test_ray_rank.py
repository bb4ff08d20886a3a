"""Which part a worker of Ray takes, and in what words it ends; `tests/integration/test_ray.py` has real ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bloomery.core.errors import BloomeryError, DataError, TrainingError
from bloomery.training import ray_rank
from bloomery.training.follower import STAGES
from bloomery.training.parallel.ray_ranks import RankFailed
from bloomery.training.parallel.watchdog import Watchdog


class Voice:
    def __init__(self) -> None:
        self.said: list[Any] = []

    def __call__(self, event: object) -> None:
        """A listener."""

    def done(self, artifact: str) -> None:
        self.said.append(artifact)

    def failed(self, error: BloomeryError) -> None:
        self.said.append(error.message)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_rank, "LEADER_SECONDS", 0.0)
    monkeypatch.setattr(Watchdog, "last_words", Watchdog.last_words)  # put back after


def test_what_can_be_followed_can_be_led():
    assert set(ray_rank.STAGES) == set(STAGES)


def test_rank_0_runs_the_stage_and_tells_what_it_made(tmp_path, monkeypatch: pytest.MonkeyPatch):
    seen: list[Any] = []

    def lead(job, workspace):
        seen.append((job["artifacts"], workspace.root))
        return SimpleNamespace(id="0123")

    monkeypatch.setattr(ray_rank, "STAGES", {"pretrain": lead})
    monkeypatch.setattr(ray_rank, "is_follower", lambda: False)
    voice = Voice()
    ray_rank.take_part({"stage": "pretrain", "root": str(tmp_path), "artifacts": ["a"]}, voice)  # type: ignore[arg-type]
    assert seen == [(["a"], tmp_path)] and voice.said == ["0123"]
    Watchdog.last_words(TrainingError("rank 1 stands still"))
    assert voice.said[1:] == ["rank 1 stands still"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (TrainingError("another rank has ended"), RankFailed),
        (RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), RankFailed),
        (RuntimeError("shapes do not match"), RuntimeError),
        (DataError("a shard is gone"), DataError),
    ],
)
def test_how_a_follower_ends(error: Exception, raised: type[Exception], monkeypatch: pytest.MonkeyPatch):
    def follow() -> None:
        raise error

    monkeypatch.setattr(ray_rank, "follow_jobs", follow)
    monkeypatch.setattr(ray_rank, "is_follower", lambda: True)
    with pytest.raises(raised) as caught:
        ray_rank.take_part({"stage": "pretrain"}, Voice())  # type: ignore[arg-type]
    assert type(caught.value) is raised
