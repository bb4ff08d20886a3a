"""Synthesise: documents, questions or instructions written by a model, as a corpus.

    ask (a round) -> read -> copies and near copies out -> overlaps with held-out texts out -> split

Each record keeps the model, the seed and the digest of its prompt; the prompts themselves are in prompts.jsonl.zst.
Answers come in any order and are taken in the order of asking, so that concurrency changes nothing; they are written
down as they come, and a run that was interrupted asks for none again. This module does not know prompts, nor whose
model it is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bloomery.core.artifact import Artifact, sha256_file
from bloomery.core.asking import ask_all
from bloomery.core.config import digest, to_dict
from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.core.messages import ChatAnswer, ChatModel
from bloomery.core.quantity import Quantity
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus.annotation.held_out import HeldOut, held_out_files, read_held_out
from bloomery.corpus.annotation.journal import Journal, question_key
from bloomery.corpus.annotation.self_similarity import TakenTexts
from bloomery.corpus.annotation.synthesis_prompts import Attempt, SynthesisConfig, attempt, read_record
from bloomery.corpus.document import Document, content_digest
from bloomery.corpus.shards import DROPPED_FILE, LineWriter, SplitWriter, read_documents
from bloomery.corpus.split import SPLITS, hash_split

STAGE = "synthesise"
PROMPTS_FILE = "prompts.jsonl.zst"
REPORT_FILE = "report.json"
_VERSION = 3  # 2: the last rounds are no larger than what is missing; 3: held-out words of scripts without spaces
_ROUND = 16
"""Questions of a round: what is made in one can be shown from the next on."""
_SHARD_BYTES = 64 << 20


def synthesise(
    model: ChatModel,
    config: SynthesisConfig,
    *,
    corpus: Artifact | None = None,
    held_out: Sequence[str | Path] = (),
    concurrency: int = 4,
    workspace: Workspace | str | None = None,
    fresh: bool = False,
) -> Artifact:
    """A corpus of `config.count` records, or fewer where the attempts are used up before (a note says so).

    `corpus`: what questions are about, its training split. `held_out`: files of which nothing may be in a record;
    whatever is wrong with one is an error before the first question. Metrics: those of curate, and what it took:
    attempts, tokens, `answer_joules`. DataError if no record is left, RequestError if the model is gone.
    """
    workspace = as_workspace(workspace)
    if (config.kind == "questions") != (corpus is not None):
        what = "need a corpus" if config.kind == "questions" else "are about no corpus"
        raise ConfigError(f"{config.kind} {what}", hint="bloomery curate makes one")
    held = read_held_out(held_out, num_words=config.num_words)
    inputs = StageInputs(
        stage=STAGE,
        config={"synthesis": to_dict(config), "model": model.name, "held_out": [str(path) for path in held_out]},
        parents=[] if corpus is None else [corpus.id],
        fingerprint=digest([sha256_file(path) for path in held_out_files(held_out)]),
        seed=config.seed,
        version=_VERSION,
    )
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    documents = list(read_documents(corpus, "train")) if corpus is not None else []
    if corpus is not None and not documents:
        raise DataError(f"{corpus.name} has no training document to ask about")
    from bloomery.energy import open_meter

    with Run(workspace, inputs, meter=open_meter()) as run, Journal(run.scratch / "answers.jsonl") as journal:
        if len(journal):
            run.note(f"{len(journal):,} answers of an earlier attempt are used again")
        return _Synthesis(run, model, config, held, documents, journal, concurrency).work()


class _Synthesis:
    """One run of the stage."""

    def __init__(
        self,
        run: Run,
        model: ChatModel,
        config: SynthesisConfig,
        held: HeldOut,
        documents: Sequence[Document],
        journal: Journal,
        concurrency: int,
    ) -> None:
        self.run, self.model, self.config, self.held = run, model, config, held
        self.documents, self.journal, self.concurrency = documents, journal, concurrency
        self.folder = run.new_folder()
        self.dropped: Counter[str] = Counter()
        self.made: list[Document] = []
        self.digests: set[bytes] = set()
        self.taken = TakenTexts(threshold=config.similarity)
        for seed in config.seeds:
            self.taken.take(f"seed {len(self.taken)}", f"{seed.instruction} {seed.input}")
        self.prompts: set[str] = set()
        self.attempts = 0
        self.tokens: dict[str, int | None] = {"prompt_tokens": 0, "completion_tokens": 0}
        self.joules = Quantity.exact(0.0, "counter")

    def work(self) -> Artifact:
        config = self.config
        most = int(config.count * config.attempts_per_record)
        with ExitStack() as stack:
            self.drops = stack.enter_context(LineWriter(self.folder / DROPPED_FILE))
            self.asked = stack.enter_context(LineWriter(self.folder / PROMPTS_FILE))
            with self.run.phase("ask"):
                while len(self.made) < config.count and self.attempts < most:
                    missing = config.count - len(self.made)
                    # A few more than are missing: some answers will be left out, and each of them costs.
                    self._round(min(_ROUND, most - self.attempts, missing + missing // 4 + 1))
            writers = {
                split: stack.enter_context(SplitWriter(self.folder, split, shard_bytes=_SHARD_BYTES))
                for split in SPLITS
            }
            for document in self.made:
                split = hash_split(
                    content_digest(document.text),
                    validation_fraction=config.validation_fraction,
                    test_fraction=config.test_fraction,
                )
                writers[split].write(document)
        if not writers["train"].documents:
            reason, count = next(iter(self.dropped.most_common(1)), ("nothing", 0))
            raise DataError(
                f"no training record is left of {self.attempts:,} answers; {count:,} were dropped: {reason}",
                hint="a model that follows instructions, another prompt, or more of them (count)",
            )
        if len(self.made) < config.count:
            left = f"{len(self.made):,} of {config.count:,} records after {self.attempts:,} answers"
            self.run.note(f"{left}: {dict(self.dropped.most_common(4))}; attempts_per_record allows more")
        metrics: dict[str, Any] = {
            "documents": {split: writer.documents for split, writer in writers.items()},
            "text_bytes": {split: writer.text_bytes for split, writer in writers.items()},
            "dropped": dict(sorted(self.dropped.items())),
            "problems": 0,
            "attempts": self.attempts,
            "held_out_texts": self.held.texts,
            **self.tokens,
            "answer_joules": self.joules.to_dict(),
        }
        report = {"config": dict(self.run.inputs.config), **metrics}
        text = json.dumps(report, indent=1, ensure_ascii=False, sort_keys=True)
        (self.folder / REPORT_FILE).write_bytes(text.encode("utf-8", "replace"))
        return self.run.publish(self.folder, kind="corpus", metrics=metrics)

    def _round(self, size: int) -> None:
        """Ask for what is not in the journal; take the answers in the order of asking."""
        wanted: dict[str, Attempt] = {}
        numbers = range(self.attempts, self.attempts + size)
        before = tuple(self.made)
        tries = [attempt(self.config, number, before, self.documents) for number in numbers]
        keys = [question_key(self.model.name, one.messages, one.options) for one in tries]
        wanted = {key: one for key, one in zip(keys, tries, strict=True) if self.journal.get(key) is None}
        failed: dict[str, BloomeryError] = {}
        questions = ((key, one.messages, one.options) for key, one in wanted.items())
        for done, told in enumerate(ask_all(self.model, questions, concurrency=self.concurrency), 1):
            if told.answer is not None:
                self.journal.add(told.key, told.answer)
            elif told.error is not None:
                failed[told.key] = told.error
            self.run.progress(len(self.made), self.config.count, unit="records", answers=self.attempts + done)
        for number, key, one in zip(numbers, keys, tries, strict=True):
            self.attempts += 1
            answer = self.journal.get(key)
            if answer is None:
                self._drop(number, "failed", failed[key].message if key in failed else "")
                continue
            self._count(answer)
            if len(self.made) < self.config.count:
                self._take(number, key, one, answer)

    def _count(self, answer: ChatAnswer) -> None:
        for name, so_far in self.tokens.items():
            more = getattr(answer.usage, name)
            self.tokens[name] = None if so_far is None or more is None else so_far + more
        self.joules = self.joules + answer.usage.energy_joules

    def _take(self, number: int, key: str, asked: Attempt, answer: ChatAnswer) -> None:
        if answer.finish_reason == "length":
            return self._drop(number, "unfinished", answer.text[:200])
        try:
            text, others = read_record(self.config, answer.text)
        except DataError as error:
            return self._drop(number, "no_record", f"{error.message}: {answer.text[:200]}")
        if (found := content_digest(text)) in self.digests:
            return self._drop(number, "duplicate", text[:200])
        if (near := self.taken.nearest(text)) is not None:
            return self._drop(number, "near_duplicate", f"{near.score:.2f} of {near.key}: {text[:200]}")
        for one in (text, *others.values()):
            if shared := self.held.overlap(one):
                return self._drop(number, "overlaps_held_out", f"shares: {shared}")
        metadata: dict[str, Any] = {**others, "model": self.model.name, "prompt": key[:16], "attempt": number}
        metadata |= {"seed": asked.options.seed if answer.seed is None else answer.seed}
        metadata |= {"temperature": asked.options.temperature}
        if asked.about is not None:
            metadata["about"] = asked.about.id
        document = Document.of(text, f"synthetic:{self.model.name}", metadata)
        self.digests.add(found)
        self.taken.take(document.id, text)
        self.made.append(document)
        messages = [dict(message) for message in asked.messages]
        self.asked.write({"prompt": key[:16], "messages": messages, "options": asked.options.plain()})
        return None

    def _drop(self, number: int, reason: str, detail: str) -> None:
        self.dropped[reason] += 1
        source = f"synthetic:{self.model.name}, attempt {number}"
        self.drops.write({"id": "", "source": source, "reason": reason, "detail": " ".join(detail.split())})
