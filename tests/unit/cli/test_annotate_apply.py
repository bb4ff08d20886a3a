"""`bloomery annotate apply`: answers of the store become labels of a corpus."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bloomery.cli.annotate_options import find_corpus
from bloomery.core.workspace import Workspace
from bloomery.corpus import read_documents
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import FILE, Annotation, AnnotationStore


def test_what_people_said_is_the_label(call, spam_home, tmp_path: Path):
    home = tmp_path / "home"
    shutil.copytree(spam_home.home, home, ignore=shutil.ignore_patterns("*.sqlite*"))
    asked = Question(name="who", kind="choice", instruction="?", labels=("ham", "spam"))
    corpus = home / "artifacts" / find_corpus(Workspace(spam_home.home), "").path.name
    workspace = Workspace(home)
    documents = list(read_documents(workspace.find(corpus), "train"))
    with AnnotationStore(home / FILE) as store:
        for document in documents[:50]:
            for who, value in (
                ("anna", document.metadata["kind"]),
                ("bert", "ham"),
                ("carl", document.metadata["kind"]),
            ):
                store.add(asked, document, Annotation(item=document.id, annotator=who, kind="person", value=value))
    command = ("annotate", "apply", "who", str(corpus), "--gold", "kind", "--home", str(home), "--quiet")
    told = json.loads(call(*command, "--json").out)
    made = list(read_documents(workspace.find(told["name"]), "train"))
    assert [one.id for one in made] == [one.id for one in documents[:50]]
    assert all(one.metadata["label"] == one.metadata["kind"] for one in made)
    assert told["metrics"]["against_gold"]["train"]["accuracy"] == 1.0
    said = call(*command, "--by", "bert", "--field", "bert")
    assert "train: 50 documents (ham 50)" in said.out and "taken out, unlabelled" in said.out
    assert "not joined by median" in call.mistake(*command, "--join", "median")
