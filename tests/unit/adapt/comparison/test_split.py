"""Splits stay where they are, keep clusters whole and hold no question twice."""

from __future__ import annotations

import json
import random

import pytest

from bloomery.adapt.comparison.reading import content_hash
from bloomery.adapt.comparison.split import PARTS, clusters, divided, read_part, split_task
from bloomery.adapt.comparison.task import SplitConfig, TaskConfig
from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Sample


def sample(text: str, target: str = "x", cluster: str = "") -> Sample:
    return Sample(id=content_hash(text), input=text, targets=(target,), cluster=cluster)


MANY = [sample(f"question {number}") for number in range(600)]


def test_parts_have_about_their_shares_and_nothing_in_common():
    found = divided(MANY, SplitConfig(max_dev=0), 0)
    sizes = [len(getattr(found, name)) for name in PARTS]
    assert sum(sizes) == 600 and 0.44 < sizes[0] / 600 < 0.56 and 0.25 < sizes[2] / 600 < 0.35
    ids = [{one.id for one in getattr(found, name)} for name in PARTS]
    assert not (ids[0] & ids[1] or ids[0] & ids[2] or ids[1] & ids[2])


def test_order_and_more_rows_move_nothing():
    shuffled = MANY[:]
    random.Random(1).shuffle(shuffled)
    before, after = divided(MANY[:400], SplitConfig(max_dev=0), 3), divided(shuffled, SplitConfig(max_dev=0), 3)
    for name in PARTS:
        assert {one.id for one in getattr(before, name)} <= {one.id for one in getattr(after, name)}
    assert divided(shuffled, SplitConfig(), 3) == divided(MANY, SplitConfig(), 3)
    assert divided(MANY, SplitConfig(), 4).test != divided(MANY, SplitConfig(), 3).test


def test_duplicates_and_contradictions_are_told():
    found = divided([*MANY, sample("Question  7"), sample("question 8", "y")], SplitConfig(), 0)
    assert found.duplicates == 2 and found.contradictions == 1


def test_clusters_stay_whole_and_a_question_in_two_of_them_stays_in_the_test():
    rows = [sample(f"question {number}", cluster=f"c{number % 150}") for number in range(600)]
    twice = [sample(f"question {number}", cluster=f"d{number}") for number in range(100)]
    found = divided([*rows, *twice], SplitConfig(max_dev=0), 0)
    places: dict[str, set[str]] = {}
    for name in PARTS:
        for one in getattr(found, name):
            places.setdefault(one.cluster, set()).add(name)
    assert all(len(one) == 1 for one in places.values()) and found.crossing > 0
    ids = [one.id for name in PARTS for one in getattr(found, name)]
    assert len(ids) == len(set(ids)) == 600
    assert clusters(rows) == 150 and clusters(MANY) == 600


def test_limits_and_too_few():
    found = divided(MANY, SplitConfig(max_train=50, max_dev=30, max_test=40), 0)
    assert [len(getattr(found, name)) for name in PARTS] == [50, 30, 40] and found.unused == 480
    with pytest.raises(DataError, match="20 are needed") as few:
        divided(MANY[:40], SplitConfig(), 0)
    assert few.value.hint == "more samples, or a larger share: --set split.dev=0.4"
    with pytest.raises(DataError) as limited:
        divided(MANY, SplitConfig(max_dev=8), 0)
    assert limited.value.hint == "--set split.max_dev=20, or 0 for all"


def test_the_artifact_is_the_same_twice_and_reads_back(tmp_path, workspace):
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"input": f"q {n}", "target": str(n % 3)}) + "\n" for n in range(300)))
    config = TaskConfig(samples=str(path))
    made = split_task(config, workspace)
    assert split_task(config, workspace).id == made.id
    test = read_part(made, "test")
    assert len(test) == made.metrics["items"]["test"] and test[0].targets
    assert len(made.metrics["digests"]["test"]) == 64
    with pytest.raises(DataError, match="no samples"):
        split_task(TaskConfig(samples=str(tmp_path / "gone.jsonl")), workspace)
