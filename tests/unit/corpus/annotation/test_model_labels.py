"""A corpus asked of a model as one run: recorded, and gone on with."""

from __future__ import annotations

import pytest

from bloomery.core.errors import RequestError
from bloomery.corpus.annotation.label_functions import read_rules
from bloomery.corpus.annotation.model_labels import STAGE, model_labels
from bloomery.corpus.annotation.store import AnnotationStore
from bloomery.corpus.shards import read_documents


def test_a_run_is_recorded_and_goes_on(spam, told_model, tmp_path):
    question = read_rules(spam.rules).question
    documents = list(read_documents(spam.corpus, "test"))

    def stops(text: str, options) -> str:
        if len(model.asked) > 10:
            raise RequestError("no such model", status=404)
        return "ham"

    model = told_model(stops)
    with AnnotationStore(tmp_path / "a.sqlite") as store:
        with pytest.raises(RequestError, match="no such model"):
            model_labels(store, question, spam.corpus, documents, model, workspace=spam.workspace)
        failed = spam.workspace.ledger.runs(stage=STAGE, limit=1)[0]
        assert failed["state"] == "failed" and "no such model" in failed["error"]
        again = told_model(lambda text, options: "spam")
        report = model_labels(store, question, spam.corpus, documents, again, workspace=spam.workspace)
        assert report.known == 10 and report.answered == len(documents) - 10 == len(again.asked)
        run = spam.workspace.ledger.runs(stage=STAGE, limit=1)[0]
        assert run["state"] == "finished" and run["config"]["model"] == "told-model"
        assert run["config"]["question"]["instruction"] == "Is this spam?"
