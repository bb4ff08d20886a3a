"""Labelled: a corpus with labels in its documents' metadata, which `bloomery train` reads (objective classes, say).

The documents, their order and their splits stay; those without a label, or with one that is not probable enough, are
taken out and named with the reason. Where the corpus has labels that are known to be right (gold), the new ones are
compared with them, split by split. This module does not know where labels come from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bloomery.core.artifact import Artifact
from bloomery.core.config import digest, to_dict
from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus.document import Document
from bloomery.corpus.rows import field_of
from bloomery.corpus.shards import DROPPED_FILE, LineWriter, SplitWriter, read_documents
from bloomery.corpus.split import SPLITS

STAGE = "annotate"
REPORT_FILE = "report.json"
_VERSION = 1


class Label(NamedTuple):
    """A document's label (any plain JSON value), and how probable it is; None: not known."""

    value: Any
    probability: float | None = None


@dataclass(frozen=True, kw_only=True)
class LabelledConfig:
    """What becomes of a corpus and labels."""

    field: str = "label"
    """Metadata field that takes the label; FIELD_probability stands beside it."""
    min_probability: float = 0.0
    """Less probable labels are none. One of an unknown probability stays."""
    keep_unlabelled: bool = False
    """Keep documents without a label, without the field."""
    gold_field: str = ""
    """Metadata field with labels that are right, to compare with. One of the same name is kept as gold_FIELD."""
    gold_splits: tuple[str, ...] = ()
    """Splits whose documents get their gold label instead: what is tested is then the truth, not the labels' errors."""

    def __post_init__(self) -> None:
        if not self.field:
            raise ConfigError("which field takes the label?", hint='field = "label"')
        if not 0 <= self.min_probability <= 1:
            raise ConfigError(f'"min_probability" is {self.min_probability}, but should be from 0 to 1')
        for split in self.gold_splits:
            if split not in SPLITS:
                raise ConfigError(f'a corpus has no split "{split}"', hint=nearest(split, SPLITS))
        if self.gold_splits and not self.gold_field:
            raise ConfigError("gold_splits need gold_field", hint="which field holds the gold labels?")


@dataclass
class _Compared:
    """Labels against gold ones of one split."""

    judged: int = 0
    right: int = 0
    gold: Counter[str] = field(default_factory=Counter)
    cells: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, gold: Any, said: Any) -> None:
        self.judged += 1
        self.right += str(gold) == str(said)
        self.gold[str(gold)] += 1
        self.cells[(str(gold), str(said))] += 1

    def to_dict(self) -> dict[str, Any]:
        most = max(self.gold.values(), default=0)
        table = [{"gold": gold, "label": said, "documents": n} for (gold, said), n in sorted(self.cells.items())]
        shares = {"accuracy": self.right / self.judged, "most_frequent": most / self.judged} if self.judged else {}
        return {"judged": self.judged, **shares, "table": table}


def label_corpus(
    corpus: Artifact,
    labels: Mapping[str, Label],
    *,
    config: LabelledConfig | None = None,
    how: Mapping[str, Any] | None = None,
    workspace: Workspace | str | None = None,
    fresh: bool = False,
) -> Artifact:
    """A corpus of the documents of another with `labels` by document id. `how` says, as plain data, what made them: it
    stands in the config and report.

    Metrics: documents and text_bytes by split, dropped by reason, labels by split, and `against_gold` by split.
    DataError if no training document is left.
    """
    workspace, config = as_workspace(workspace), config or LabelledConfig()
    told = {"labelled": to_dict(config), "how": dict(how or {})}
    inputs = StageInputs(
        stage=STAGE,
        config=told,
        parents=[corpus.id],
        fingerprint=digest(sorted([key, one.value, one.probability] for key, one in labels.items())),
        version=_VERSION,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    from bloomery.energy import open_meter

    with Run(workspace, inputs, meter=open_meter()) as run:
        return _Writing(run, config, told, labels).work(corpus)


class _Writing:
    """One run of the stage."""

    def __init__(self, run: Run, config: LabelledConfig, told: Mapping[str, Any], labels: Mapping[str, Label]) -> None:
        self.run, self.config, self.told, self.labels = run, config, told, labels
        self.folder = run.new_folder()
        self.dropped: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.compared = {split: _Compared() for split in SPLITS}

    def work(self, corpus: Artifact) -> Artifact:
        shard_bytes = int(corpus.config.get("shard_bytes", 64 << 20))
        with ExitStack() as stack:
            self.drops = stack.enter_context(LineWriter(self.folder / DROPPED_FILE))
            writers = {
                split: stack.enter_context(SplitWriter(self.folder, split, shard_bytes=shard_bytes)) for split in SPLITS
            }
            with self.run.phase("label"):
                for split in SPLITS:
                    for document in self._labelled(split, read_documents(corpus, split)):
                        writers[split].write(document)
        if not writers["train"].documents:
            hint = "more labels, or a lower min_probability"
            raise DataError("no training document has a label", hint=hint)
        metrics = {
            "documents": {split: writer.documents for split, writer in writers.items()},
            "text_bytes": {split: writer.text_bytes for split, writer in writers.items()},
            "dropped": dict(sorted(self.dropped.items())),
            "problems": 0,
            "labels": {split: dict(sorted(counts.items())) for split, counts in self.counts.items()},
        }
        if self.config.gold_field:
            metrics["against_gold"] = {split: one.to_dict() for split, one in self.compared.items()}
        report = json.dumps({"config": self.told, **metrics}, indent=1, ensure_ascii=False, sort_keys=True)
        (self.folder / REPORT_FILE).write_bytes(report.encode("utf-8", "replace"))
        return self.run.publish(self.folder, kind="corpus", metrics=metrics)

    def _labelled(self, split: str, documents: Iterator[Document]) -> Iterator[Document]:
        config = self.config
        for document in documents:
            label = self.labels.get(document.id)
            gold = field_of(document.metadata, config.gold_field) if config.gold_field else None
            improbable = (
                label is not None and (1.0 if label.probability is None else label.probability) < config.min_probability
            )
            if label is not None and not improbable and gold is not None:
                self.compared[split].add(gold, label.value)
            label = None if improbable else label
            if split in config.gold_splits:
                label = None if gold is None else Label(gold)
            if label is None:
                gone = "no_gold_label" if split in config.gold_splits else "improbable_label"
                self._drop(document, gone if improbable or split in config.gold_splits else "unlabelled")
            metadata = self._metadata(document, label)
            if label is not None or config.keep_unlabelled:
                if label is not None:
                    self.counts[split][_shown(label.value)] += 1
                yield Document(document.id, document.text, document.source, metadata)

    def _metadata(self, document: Document, label: Label | None) -> dict[str, Any]:
        metadata = dict(document.metadata)
        name = self.config.field
        if name in metadata:
            metadata[f"gold_{name}" if name == self.config.gold_field else f"old_{name}"] = metadata.pop(name)
        if label is not None:
            metadata[name] = label.value
            if label.probability is not None:
                metadata[f"{name}_probability"] = round(label.probability, 6)
        return metadata

    def _drop(self, document: Document, reason: str) -> None:
        if not self.config.keep_unlabelled:
            self.dropped[reason] += 1
            self.drops.write({"id": document.id, "source": document.source, "reason": reason, "detail": ""})


def _shown(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= 100 else json.dumps(value, ensure_ascii=False)[:100]
