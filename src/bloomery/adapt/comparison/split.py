"""Split: train, dev and the locked test of a task, by content hash, as one artifact.

Each question's part depends on its own content (or its cluster's name) and the seed alone: parts stay as they are when
the file grows or its rows change places. The same question twice counts once; where clusters would carry it into two
parts it stays in the one that matters more (test, then dev). This module does not know arms.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bloomery.adapt.comparison.reading import read_samples
from bloomery.adapt.comparison.task import SplitConfig, TaskConfig
from bloomery.core.artifact import Artifact, sha256_file, write_durably
from bloomery.core.config import to_dict
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace
from bloomery.evaluate.sample import Sample

PARTS = ("train", "dev", "test")
LEAST = 20
"""Items that dev and test need."""
_RANGE = 1 << 64


@dataclass(frozen=True, kw_only=True)
class Split:
    """The three parts, in the order of their hashes, and what was left out."""

    train: tuple[Sample, ...]
    dev: tuple[Sample, ...]
    test: tuple[Sample, ...]
    duplicates: int = 0
    """Rows whose question stands in an earlier row."""
    contradictions: int = 0
    """Questions among them that had another answer there; the first row counts."""
    crossing: int = 0
    """Questions that clusters carried into a second part, and that were removed from it."""
    unused: int = 0
    """Questions beyond the numbers asked for."""
    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each part's file."""


def divided(samples: Sequence[Sample], config: SplitConfig, seed: int) -> Split:
    """Samples in three parts. DataError where dev or test has fewer than LEAST."""
    kept: dict[tuple[str, str], Sample] = {}
    answers: dict[str, tuple[str, ...]] = {}
    duplicates = contradictions = 0
    for sample in samples:
        if sample.id in answers and answers[sample.id] != sample.targets:
            contradictions += 1
        answers.setdefault(sample.id, sample.targets)
        key = (sample.id, _part(sample, config, seed))
        duplicates += key in kept
        kept.setdefault(key, sample)
    parts: dict[str, list[Sample]] = {name: [] for name in PARTS}
    crossing = 0
    for (identity, part), sample in kept.items():
        better = {"train": ("dev", "test"), "dev": ("test",), "test": ()}[part]
        if any((identity, other) in kept for other in better):
            crossing += 1
        else:
            parts[part].append(sample)
    unused = 0
    for name, listed in parts.items():
        listed.sort(key=lambda one: (_place(one, seed), one.id))
        most = getattr(config, f"max_{name}") or len(listed)
        unused += len(listed[most:])
        del listed[most:]
    for name in ("dev", "test"):
        if len(parts[name]) < LEAST:
            limit = getattr(config, f"max_{name}")
            hint = f"more samples, or a larger share: --set split.{name}={min(0.45, 2 * getattr(config, name)):g}"
            if limit and limit < LEAST:
                hint = f"--set split.max_{name}={LEAST}, or 0 for all"
            raise DataError(
                f"{name} has {len(parts[name])} questions of {len(samples)}: {LEAST} are needed to say anything",
                hint=hint,
            )
    return Split(
        train=tuple(parts["train"]),
        dev=tuple(parts["dev"]),
        test=tuple(parts["test"]),
        duplicates=duplicates,
        contradictions=contradictions,
        crossing=crossing,
        unused=unused,
    )


def _place(sample: Sample, seed: int) -> int:
    """From 0 to 2^64 - 1, by the cluster where there is one."""
    key = f"cluster {sample.cluster}" if sample.cluster else sample.id
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode("utf-8", "backslashreplace")).digest()[:8], "big")


def _part(sample: Sample, config: SplitConfig, seed: int) -> str:
    share = _place(sample, seed) / _RANGE
    if share < config.test:
        return "test"
    return "dev" if share < config.test + config.dev else "train"


def split_inputs(config: TaskConfig) -> StageInputs:
    """What the split depends on: the file's content, its columns, the shares and the seed."""
    try:
        fingerprint = sha256_file(Path(config.samples))
    except OSError as error:
        raise DataError(
            f"no samples at {config.samples}: {error.strerror}", hint="a path beside the task file"
        ) from None
    names = ("input", "columns", "target", "choices", "choices_column", "cluster", "rubric", "context")
    plain = to_dict(config)
    return StageInputs(
        stage="compare_split",
        config={"split": plain["split"], **{name: plain[name] for name in names}},
        fingerprint=fingerprint,
        seed=config.seed,
    )


def split_task(config: TaskConfig, workspace: Workspace) -> Artifact:
    """The split as an artifact: train.jsonl, dev.jsonl, test.jsonl, split.json."""
    inputs = split_inputs(config)
    if made := reusable(workspace, inputs):
        return made
    with Run(workspace, inputs) as run:
        found = divided(read_samples(config), config.split, config.seed)
        folder = run.new_folder()
        digests = {}
        for name in PARTS:
            data = "".join(_line(one) for one in getattr(found, name)).encode("utf-8", "backslashreplace")
            write_durably(folder / f"{name}.jsonl", data)
            digests[name] = hashlib.sha256(data).hexdigest()
        told: dict[str, Any] = {
            "items": {name: len(getattr(found, name)) for name in PARTS},
            "clusters": {name: clusters(getattr(found, name)) for name in PARTS},
            "digests": digests,
            **{name: getattr(found, name) for name in ("duplicates", "contradictions", "crossing", "unused")},
        }
        write_durably(folder / "split.json", json.dumps(told, indent=1).encode())
        if found.contradictions:
            run.note(f"{found.contradictions} questions have another answer in a later row: the first counts")
        return run.publish(folder, kind="split", metrics=told)


def clusters(samples: Sequence[Sample]) -> int:
    """How many independent units there are; samples without a cluster stand alone."""
    return len({sample.cluster or f"\0{sample.id}" for sample in samples})


def read_part(split: Artifact, name: str) -> list[Sample]:
    """One part of a split's artifact."""
    found = []
    with split.file(f"{name}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            found.append(Sample(**{**row, "targets": tuple(row["targets"]), "choices": tuple(row["choices"])}))
    return found


def _line(sample: Sample) -> str:
    return json.dumps(asdict(sample), ensure_ascii=False, sort_keys=True) + "\n"
