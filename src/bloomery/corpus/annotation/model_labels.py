"""Model labels: a corpus asked of a model as one run, metered and recorded; the answers stay in the store.

This module does not know prompts, nor whose model it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bloomery.core.artifact import Artifact
from bloomery.core.config import digest, to_dict
from bloomery.core.messages import ChatModel
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.corpus.annotation.prompted import Labelled, PromptConfig, label_by_model
from bloomery.corpus.annotation.question import Question
from bloomery.corpus.annotation.store import AnnotationStore
from bloomery.corpus.document import Document

STAGE = "annotate-model"


def model_labels(
    store: AnnotationStore,
    question: Question,
    corpus: Artifact,
    documents: Sequence[Document],
    model: ChatModel,
    *,
    config: PromptConfig | None = None,
    workspace: Workspace,
) -> Labelled:
    """Ask the model of these documents of a corpus. What was answered before is not asked again; what failed is noted.

    RequestError for what every document would meet, once what was answered is kept.
    """
    from bloomery.energy import open_meter

    config = config or PromptConfig()
    inputs = StageInputs(
        stage=STAGE,
        config={"question": question.to_dict(), "model": model.name, "prompted": to_dict(config)},
        parents=[corpus.id],
        fingerprint=digest(sorted(document.id for document in documents)),
        seed=config.seed,
    )
    with Run(workspace, inputs, meter=open_meter()) as run:
        total = len(documents)

        def told(report: Labelled) -> None:
            done = report.known + report.asked
            run.progress(done, total, unit="documents", failed=report.failed, unanswered=report.unanswered)

        with run.phase("ask"):
            report = label_by_model(store, question, documents, model, config=config, told=told)
        if report.known:
            run.note(f"{report.known:,} documents were answered before and not asked again")
        if report.failed:
            run.note(f"{report.failed:,} failed, and will be asked again next time; the last: {report.last_error}")
        run.metrics({name: value for name, value in vars(report).items() if isinstance(value, int)})
        return replace(report)
