"""`bloomery annotate rules`: from rules to a corpus with labels, said in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.core.workspace import Workspace
from bloomery.corpus import read_documents


def test_a_corpus_with_labels(call, spam_home):
    found = call("annotate", "rules", str(spam_home.rules), "--gold", "kind", "--home", str(spam_home.home), "--quiet")
    assert found.code == 0, found.err
    assert "accuracy, test: label model" in found.out and "prizes" in found.out
    name = found.out.split()[0]
    made = Workspace(spam_home.home).find(name)
    train = list(read_documents(made, "train"))
    assert {one.metadata["label"] for one in train} == {"ham", "spam"}
    right = sum(one.metadata["label"] == one.metadata["kind"] for one in train) / len(train)
    assert right > 0.85 and all(0 < one.metadata["label_probability"] <= 1 for one in train)


def test_the_same_command_does_the_same(call, spam_home):
    command = ("annotate", "rules", str(spam_home.rules), "--home", str(spam_home.home), "--quiet", "--json")
    first, second = (json.loads(call(*command).out) for _ in range(2))
    assert first["id"] == second["id"] and first["rules"]["coverage"]["train"] < 1


def test_a_dry_run_makes_nothing(call, spam_home):
    before = sorted((spam_home.home / "artifacts").iterdir())
    command = ("annotate", "rules", str(spam_home.rules), "--home", str(spam_home.home), "--dry-run", "--json")
    told = json.loads(call(*command).out)
    assert [row["name"] for row in told["functions"]] == ["prizes", "numbers", "people"]
    assert sorted((spam_home.home / "artifacts").iterdir()) == before


def test_held_out_splits_have_the_truth(call, spam_home):
    options = ("--field", "kind", "--gold", "kind", "--gold-split", "test", "--balance", "ham=0.7,spam=0.3")
    found = call(
        "annotate", "rules", str(spam_home.rules), *options, "--home", str(spam_home.home), "--json", "--quiet"
    )
    told = json.loads(found.out)
    assert told["rules"]["balance"] == {"ham": 0.7, "spam": 0.3}
    made = Workspace(spam_home.home).find(told["name"])
    assert all(one.metadata["kind"] == one.metadata["gold_kind"] for one in read_documents(made, "test"))


@pytest.mark.parametrize("balance", ["ham=0.7", "ham=0.7,spam=x", "ham=0.7,eggs=0.3", "ham=0.7,spam=0.7"])
def test_shares_that_are_none(call, spam_home, balance: str):
    said = call.mistake("annotate", "rules", str(spam_home.rules), "--balance", balance, "--home", str(spam_home.home))
    assert "balance" in said


def test_a_function_with_a_mistake_is_named(call, spam_home, tmp_path: Path):
    (tmp_path / "r.toml").write_text(spam_home.rules.read_text().replace('label = "ham"', 'label = "hm"'))
    said = call.mistake("annotate", "rules", str(tmp_path / "r.toml"), "--home", str(spam_home.home))
    assert '"people" gives the label' in said and 'did you mean "ham"?' in said
