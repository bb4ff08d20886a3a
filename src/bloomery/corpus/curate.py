"""curate: documents in, a corpus artifact out.

    sources -> read -> dedup -> split -> decontaminate -> shards, dropped.jsonl.zst, report.json

Everything streams: what must wait for the held-out documents waits on disk. This module does not know file formats
(readers), nor how a split, a duplicate or an overlap is found.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from bloomery.core.artifact import Artifact, write_durably
from bloomery.core.config import digest
from bloomery.core.errors import ConfigError, DataError
from bloomery.core.locks import FileLock
from bloomery.core.processors import processors
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus.config import CurateConfig, plain_config
from bloomery.corpus.decontaminate import HeldOutRuns, RunHasher, overlaps, words_of
from bloomery.corpus.dedup import SeenDigests
from bloomery.corpus.deduplication import Deduplication
from bloomery.corpus.document import Document, content_digest
from bloomery.corpus.filter import FilterTally
from bloomery.corpus.mix import Mix
from bloomery.corpus.near_crew import Crew
from bloomery.corpus.personal import PersonalTally
from bloomery.corpus.problems import Problems
from bloomery.corpus.record import Record
from bloomery.corpus.shards import DROPPED_FILE, LineWriter, SplitWriter, read_folder
from bloomery.corpus.sources import fingerprint, read_batches
from bloomery.corpus.split import SPLITS, hash_split, own_split, position_split, train_characters

STAGE = "curate"
REPORT_FILE = "report.json"
_CONFIG_FILE = "config.digest"
# 2: duplicates and splits by content_digest; 3: a few long documents are cut; 4: words of scripts without spaces
_VERSION = 4
_PROGRESS_SECONDS = 0.25
_STAGED_SHARD_BYTES = 256 * 1024 * 1024

# Fewer documents than this, and long enough ones, are cut into about _PIECES pieces.
_FEW_DOCUMENTS = 10
_PIECES = 40
_CUT_CHARACTERS = 8000
_LEAST_CUT_CHARACTERS = 200


def curate_inputs(config: CurateConfig) -> StageInputs:
    """What the result of `curate` depends on; raises as `curate` does for sources that are not there.

    Files stand in the fingerprint by path, size and modification time (ns), as in make: reading them to hash their
    content would cost as much as the stage itself. `python-docs` stands there by the versions of Python and of the
    packages, since an installed version's files do not change. An edit that keeps size and time is not seen: `fresh`.
    """
    return StageInputs(stage=STAGE, config=plain_config(config), fingerprint=fingerprint(config), version=_VERSION)


def curate(
    sources: str | Path | Sequence[str | Path] | None = None,
    *,
    config: CurateConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
    workers: int = 0,
) -> Artifact:
    """Make a corpus of files, folders, globs or "python-docs"; an artifact of kind "corpus".

    `sources` overrides `config.sources`, whose default is "python-docs". Metrics: documents and text_bytes (UTF-8)
    per split, documents dropped by reason (empty, duplicate, overlaps_test, overlaps_validation), and the number of
    problems met in the sources, which `report.json` lists. The same sources and config give the same bytes, whatever
    the number of `workers` (processes that read; 0: one for each processor).

    ConfigError for a path or glob that names nothing, DataError for a binary file given by name, for sources that
    leave no training document, and, with `strict`, for the first problem.
    """
    workspace, config = as_workspace(workspace), config or CurateConfig()
    if sources is not None:
        given = [sources] if isinstance(sources, (str, Path)) else sources
        if any(not str(source).strip() for source in given):
            raise ConfigError("a source is empty", hint="an unset variable? name a file, a folder or a glob")
        config = replace(config, sources=tuple(str(source) for source in given))
    inputs = curate_inputs(config)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    from bloomery.energy import open_meter

    with Run(workspace, inputs, meter=open_meter()) as run, _engine(config, workers):
        _forget_outdated(run, fresh=fresh)
        try:
            return _Curation(run, config, workers).work()
        except _TooFewDocuments as few:
            run.note(
                f"only {few.documents} documents: cut at blank lines into pieces of about {few.cut_characters:,}"
                " characters, so that there is something to train, validate and test on (cut_characters sets the size)"
            )
            return _Curation(run, replace(config, cut_characters=few.cut_characters), workers).work()


def _forget_outdated(run: Run, *, fresh: bool) -> None:
    """Remove what ended attempts at this config have read of sources that have changed since: it is of no use to
    anybody; with `fresh` also what was read of these."""
    if fresh:
        shutil.rmtree(run.scratch)
        run.scratch.mkdir()
    mine = digest([dict(run.inputs.config), str(Path.cwd())])  # a source may be named from here
    for note in run.workspace.scratch.glob(f"{STAGE}-*/{_CONFIG_FILE}"):
        folder = note.parent
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        if folder == run.scratch or not lock.try_acquire():
            continue
        try:
            if note.is_file() and note.read_text() == mine:
                shutil.rmtree(folder)
        finally:
            lock.release()
    write_durably(run.scratch / _CONFIG_FILE, mine.encode())


def _engine(config: CurateConfig, workers: int) -> AbstractContextManager[Any]:
    """What has to run while documents are read and compared: one cluster for all of it."""
    if config.engine == "local":
        return nullcontext()
    from bloomery.corpus.ray_engine import ray_cluster

    return ray_cluster(workers or processors())


def _ray_crew(workers: int) -> Crew:
    from bloomery.corpus.ray_crew import RayCrew

    return RayCrew(workers)


class _TooFewDocuments(Exception):
    """A handful of long documents cannot be divided by their hashes: one book would go to one split whole."""

    def __init__(self, documents: int, cut_characters: int) -> None:
        super().__init__(documents, cut_characters)
        self.documents, self.cut_characters = documents, cut_characters


class _Reading:
    """Progress of reading: how many documents were looked at, a few times a second, whatever becomes of them."""

    def __init__(self, run: Run) -> None:
        self._run, self._began = run, time.monotonic()
        self._shown = self._began
        self._looked_at = self._kept = self._size = 0

    def add(self, record: Record) -> None:
        if record.kind not in ("document", "taken", "refused"):
            return
        self._looked_at += 1
        self._kept += record.kind == "document"
        self._size += len(record.text)
        if (now := time.monotonic()) - self._shown < _PROGRESS_SECONDS:
            return
        self._shown = now
        # The text of what was taken out is gone: its bytes are not known.
        rate = {"megabytes_per_second": round(self._size / 1e6 / (now - self._began), 2)}
        live = rate if self._kept == self._looked_at else {"kept": self._kept}
        self._run.progress(self._looked_at, None, unit="documents", **live)


class _Curation:
    """One run of the stage: the folders, counts and writers that its phases share."""

    def __init__(self, run: Run, config: CurateConfig, workers: int) -> None:
        self.run, self.config, self.workers = run, config, workers
        self.problems = Problems(strict=config.strict, dropped=self._drop_record)
        self.dropped: Counter[str] = Counter()
        self.first_drops: dict[str, str] = {}
        self.folder = run.new_folder()
        self.staged = run.new_folder("staged")
        self.decontaminates = config.decontaminate_words > 0 and config.split != "position"
        self.characters = 0
        self.kept, self.kept_characters = 0, 0
        self.told: dict[str, Any] = {}
        self.told_at = 0.0

    def work(self) -> Artifact:
        with ExitStack() as stack:
            self.drops = stack.enter_context(LineWriter(self.folder / DROPPED_FILE))
            self.writers = {
                split: stack.enter_context(SplitWriter(folder, split, shard_bytes=self.config.shard_bytes))
                for split, folder in self._targets().items()
            }
            with self.run.phase("read"):
                self._read()
                self._check_that_it_can_be_divided()
            if self.config.split == "position":
                with self.run.phase("split"):
                    self._split_by_position()
            elif self.decontaminates:
                with self.run.phase("decontaminate"):
                    self._decontaminate()
            if self.config.mix.active and self.writers["train"].documents:
                with self.run.phase("mix"):
                    self._mix(stack)
        metrics = self._metrics()
        if not self.writers["train"].documents:
            raise self._empty()
        for split in ("validation", "test"):
            if not self.writers[split].documents and not (split == "test" and self.config.split == "position"):
                self.run.note(f"the {split} split is empty: give more documents, cut_characters or split=position")
        if self.problems.total:
            self.run.note(f"{self.problems.total} problems in the sources, the first: {self.problems.first()}")
        report = {
            "config": plain_config(self.config),
            **metrics,
            "problem_counts": dict(sorted(self.problems.counts.items())),
        }
        report["first_problems"] = self.problems.listed
        report |= self.told
        text = json.dumps(report, indent=1, ensure_ascii=False, sort_keys=True)
        (self.folder / REPORT_FILE).write_bytes(text.encode("utf-8", "replace"))
        return self.run.publish(self.folder, kind="corpus", metrics=metrics)

    def _read(self) -> None:
        """Read, deduplicate and, by hash, split; documents that must wait for others are staged."""
        config = self.config
        waits = set() if not self.decontaminates else {"train", "validation"}
        with ExitStack() as stack:
            seen = stack.enter_context(SeenDigests(self.run.scratch / "seen.sqlite"))
            staged = {
                name: stack.enter_context(SplitWriter(self.staged, name, shard_bytes=_STAGED_SHARD_BYTES, level=1))
                for name in ("train", "validation", "all")
            }
            for document, digest in self._deduplicated(self._judged(), seen):
                if config.split == "position":
                    self.characters += len(document.text)
                    staged["all"].write(document)
                else:
                    self.kept += 1
                    self.kept_characters += len(document.text)
                    split = own_split(document) if config.split == "source" else None
                    split = split or hash_split(
                        digest, validation_fraction=config.validation_fraction, test_fraction=config.test_fraction
                    )
                    (staged if split in waits else self.writers)[split].write(document)

    def _deduplicated(self, documents: Iterable[Document], seen: SeenDigests) -> Iterator[tuple[Document, bytes]]:
        """The documents that are not blank, each once, with their digests, less what else `dedup` takes out."""
        config = self.config.dedup
        if not config.active:
            yield from self._distinct(documents, seen)
            return
        workers = self.workers or processors()
        crew = _ray_crew(workers) if self.config.engine == "ray" else None
        given = {"folder": self.folder, "scratch": self.run.scratch, "workers": workers, "crew": crew}
        with Deduplication(config, **given, tell=self._tell) as dedup:
            distinct = (document for document, _ in self._distinct(documents, seen))
            # Of a text that was cut, what is left may be blank, or what another document is.
            for document in dedup.kept(distinct, self._drop, lambda cut: any(self._distinct([cut], seen))):
                yield document, content_digest(document.text)
            self.told["dedup"] = dedup.report()
            if unknown := self.told["dedup"].get("urls", {}).get("documents_without_url"):
                field = config.url_field
                self.run.note(
                    f'dedup.urls: {unknown:,} documents have no URL in "{field}", and stay'
                    f' (curate.metadata_fields=["{field}"] keeps that of rows)'
                )

    def _distinct(self, documents: Iterable[Document], seen: SeenDigests) -> Iterator[tuple[Document, bytes]]:
        for document in documents:
            if not document.text.strip():
                self._drop(document, "empty")
            elif not seen.add(digest := content_digest(document.text)):
                self._drop(document, "duplicate")
            else:
                yield document, digest

    def _judged(self) -> Iterator[Document]:
        """The documents that the rules leave, and what is left of them, personal data dealt with."""
        config = self.config
        tallies: dict[str, FilterTally | PersonalTally] = {}
        if config.filter.active:
            tallies["filter"] = FilterTally(config.filter, self.folder)
        if config.personal.active:
            tallies["personal"] = PersonalTally(config.personal)
        scratch = self.run.scratch / f"cut-{config.cut_characters}"
        progress = _Reading(self.run)
        with closing(read_batches(config, workers=self.workers, scratch=scratch)) as batches:
            for record in chain.from_iterable(batches):
                for tally in tallies.values():
                    tally.add(record)
                progress.add(record)
                if record.kind == "document":
                    yield record.document
                elif record.kind == "taken":
                    self._drop(record.document, record.reason, record.detail, record.more)
                else:
                    self.problems.tell(record)
        for name, tally in tallies.items():
            tally.close()
            self.told[name] = tally.report()

    def _check_that_it_can_be_divided(self) -> None:
        if self.config.split == "position" or self.config.cut_characters or self.kept >= _FEW_DOCUMENTS:
            return
        cut = min(_CUT_CHARACTERS, self.kept_characters // _PIECES)
        if cut >= _LEAST_CUT_CHARACTERS:
            raise _TooFewDocuments(self.kept, cut)

    def _split_by_position(self) -> None:
        length = train_characters(self.characters, self.config.validation_fraction + self.config.test_fraction)
        for split, document in position_split(self._shown(read_folder(self.staged, "all")), length):
            self.writers[split].write(document)

    def _decontaminate(self) -> None:
        """Take out what shares a run of words with test, then from training what shares one with validation."""
        hasher = RunHasher(self.config.decontaminate_words)
        test = HeldOutRuns(self.run.scratch / "test-runs", hasher)
        self.writers["test"].close()
        for document in read_folder(self.folder, "test"):
            test.add(words_of(document.text))
        test.seal()
        held_out = {"overlaps_test": test}
        validation = HeldOutRuns(self.run.scratch / "validation-runs", hasher)
        for document in self._kept(overlaps(read_folder(self.staged, "validation"), hasher, held_out)):
            validation.add(words_of(document.text))
            self.writers["validation"].write(document)
        validation.seal()
        held_out["overlaps_validation"] = validation
        train = self._shown(read_folder(self.staged, "train"))
        for document in self._kept(overlaps(train, hasher, held_out)):
            self.writers["train"].write(document)

    def _targets(self) -> dict[str, Path]:
        """Where each split is written; training documents that are to be mixed wait for it elsewhere."""
        waiting = self.run.new_folder("unmixed") if self.config.mix.active else self.folder
        return {split: waiting if split == "train" else self.folder for split in SPLITS}

    def _mix(self, stack: ExitStack) -> None:
        """Put the training documents into the proportions and the order asked for."""
        self.writers["train"].close()
        writer = stack.enter_context(SplitWriter(self.folder, "train", shard_bytes=self.config.shard_bytes))
        self.writers["train"] = writer
        mix = Mix(self.config.mix, self.run.scratch / "unmixed", self.run.new_folder("mixing"), shown=self._shown)
        mix.write(writer)
        for note in mix.notes:
            self.run.note(note)
        self.told["mix"] = mix.report

    def _kept(self, judged: Iterable[tuple[Document, str, str]]) -> Iterator[Document]:
        for document, reason, shared in judged:
            if reason:
                self._drop(document, reason, f"shares: {shared}")
            else:
                yield document

    def _drop(self, document: Document, reason: str, detail: str = "", more: Mapping[str, Any] | None = None) -> None:
        self._count_drop(reason, document.source, detail)
        row = {"id": document.id, "source": document.source, "reason": reason, "detail": detail}
        self.drops.write(row | dict(more or {}))

    def _drop_record(self, reason: str, where: str, detail: str) -> None:
        """A record of the sources that gave no document, so that every one of them stands somewhere."""
        self._count_drop(reason, where, detail)
        self.drops.write({"id": "", "source": where, "reason": reason, "detail": detail})

    def _count_drop(self, reason: str, where: str, detail: str) -> None:
        self.dropped[reason] += 1
        if reason not in self.first_drops:
            self.first_drops[reason] = where + (f" ({detail[:200]})" if detail else "")

    def _shown(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents, with progress a few times a second."""
        size, began = 0, time.monotonic()
        shown = began
        for done, document in enumerate(documents, 1):
            yield document
            size += len(document.text)
            if (now := time.monotonic()) - shown >= _PROGRESS_SECONDS:
                shown = now
                rate = size / 1e6 / (now - began)
                self.run.progress(done, None, unit="documents", megabytes_per_second=round(rate, 2))

    def _tell(self, done: int, total: int, unit: str) -> None:
        """Progress of what no document comes out of, a few times a second."""
        if done == total or time.monotonic() - self.told_at >= _PROGRESS_SECONDS:
            self.told_at = time.monotonic()
            self.run.progress(done, total, unit=unit)

    def _metrics(self) -> dict[str, Any]:
        return {
            "documents": {split: writer.documents for split, writer in self.writers.items()},
            "text_bytes": {split: writer.text_bytes for split, writer in self.writers.items()},
            "dropped": dict(sorted(self.dropped.items())),
            "problems": self.problems.total,
        }

    def _empty(self) -> DataError:
        held_out = self.writers["validation"].documents + self.writers["test"].documents
        reason, count = next(iter(self.dropped.most_common(1)), ("empty", 0))
        taken = f"{self.dropped.total():,} taken out, {count:,} of them by {reason}"
        said = f"; the first problem: {self.problems.first()}" if self.problems.total else ""
        if held_out:
            taken = f", {taken}" if count else ""
            return DataError(
                f"no document is left for training: {held_out} went to validation and test{taken}{said}",
                hint="give more documents, or --set curate.split=position",
            )
        if reason != "empty":
            first = self.first_drops[reason]
            return DataError(f"no document is left: {taken}, the first {first}{said}", hint=self._remedy(reason))
        sources = ", ".join(self.config.sources[:3])
        return DataError(
            f"the sources hold no text: {sources}{said}",
            hint="--set curate.text_field=NAME or curate.encoding=NAME where that is the cause",
        )

    def _remedy(self, reason: str) -> str:
        """What may be done where most documents were taken out for this."""
        config = self.config.filter
        if config.active and reason in {rule.name for rule in config.applied()}:
            return "--set rules.NAME=VALUE moves a threshold, off leaves a rule out"
        return {
            "overlaps_evaluation": "is one of dedup.evaluation the corpus itself?",
            "personal_data": "--set personal.KIND=mask keeps the document",
        }.get(reason, "bloomery inspect source FILE shows what is read of it, and what is not")
