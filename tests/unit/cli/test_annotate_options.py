"""What the annotate verbs share: which documents, which corpus, which model."""

from __future__ import annotations

import pytest

from bloomery.cli.annotate_options import ModelOptions, documents_of, find_corpus
from bloomery.core.errors import ConfigError
from bloomery.core.workspace import Workspace
from bloomery.corpus.annotation.store import Annotation


def test_a_sample_is_drawn_by_the_seed_and_keeps_the_order(spam_home):
    corpus = find_corpus(Workspace(spam_home.home), "")
    every = [one.id for one in documents_of(corpus, "train")]
    drawn = [one.id for one in documents_of(corpus, "train", sample=20)]
    assert len(drawn) == 20 and [one for one in every if one in set(drawn)] == drawn != every[:20]
    assert drawn == [one.id for one in documents_of(corpus, "train", sample=20)]
    assert drawn != [one.id for one in documents_of(corpus, "train", sample=20, seed=1)]
    assert len(documents_of(corpus, "all")) > len(every)


def test_the_least_sure_come_first(spam_home):
    corpus = find_corpus(Workspace(spam_home.home), "")
    first, second, *_ = documents_of(corpus, "train")
    said = {
        one.id: [Annotation(item=one.id, annotator="m", kind="model", value="a", probabilities={"a": p, "b": 1 - p})]
        for one, p in ((first, 0.9), (second, 0.6))
    }
    found = documents_of(corpus, "train", sample=3, order="unsure", answers=said)
    assert [one.id for one in found[:2]] == [second.id, first.id] and len(found) == 3


def test_the_latest_corpus_is_the_one_that_was_labelled(call, spam_home):
    before = find_corpus(Workspace(spam_home.home), "").id
    assert call("annotate", "rules", str(spam_home.rules), "--home", str(spam_home.home), "--quiet").code == 0
    assert find_corpus(Workspace(spam_home.home), "").id == before


def test_keys_without_an_endpoint(spam_home):
    with (
        pytest.raises(ConfigError, match="endpoint's"),
        ModelOptions(key_variable="X").opened(Workspace(spam_home.home)),
    ):
        pass
