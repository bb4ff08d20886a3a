"""A corpus of pictures: what was found is opened, deduplicated, split and kept as it was, with its caption.

    sources -> open with Pillow -> exact dedup -> split by a hash of the picture -> Parquet shards, dropped.jsonl.zst

Pictures keep the bytes that they came with; a size is chosen when they are read. This module does not know how sources
are read (`picture_sources`), nor models.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.artifact import Artifact
from bloomery.core.config import to_dict
from bloomery.core.errors import ConfigError, DataError, nearest
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs, reusable
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.corpus.dedup import SeenDigests
from bloomery.corpus.picture_file import open_image, square
from bloomery.corpus.picture_sources import FoundPicture, PicturesConfig, picture_fingerprint, read_picture_sources
from bloomery.corpus.problems import Problems
from bloomery.corpus.shards import DROPPED_FILE, LineWriter
from bloomery.corpus.split import SPLITS, hash_split

STAGE = "curate_pictures"
PICTURES = "pictures"
_VERSION, _NAMES_VERSION = 1, 2
_GROUP = 64
_PROGRESS_SECONDS = 0.25
_HINTS = {
    "no_caption": "put a .txt beside each picture, or --set pictures.captions=folder (or name); in JSONL or Parquet, "
    "--set pictures.caption_field=FIELD",
    "no_caption_in_rows": "rows of JSONL or Parquet have no names: --set pictures.caption_field=FIELD, or give the "
    "folder of the pictures",
    "no_image": "--set pictures.image_field=FIELD says where a row has its picture",
    "outside_the_folder": "paths begin in the file's folder, or in --set pictures.image_root=FOLDER below it",
    "image_too_large": "--set pictures.max_image_bytes=BYTES lets larger ones in",
    "damaged": "PNG, JPEG, WebP and GIF files are read",
    "elsewhere": "more pictures, or --set pictures.validation_fraction=0 --set pictures.test_fraction=0",
    "no_picture": "folders of pictures, tar shards, JSONL or Parquet",
}
"""What to do where a corpus has nothing to train on, by cause."""


@dataclass(frozen=True)
class Picture:
    """A picture of a corpus: the bytes of its file, its caption, where it came from, and fields that were kept."""

    id: str
    data: bytes
    caption: str
    width: int
    height: int
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The caption, as documents call theirs."""
        return self.caption

    def pixels(self, size: int) -> np.ndarray:
        """uint8 (size, size, 3): the shorter edge scaled to `size`, the middle of the longer one."""
        return square(open_image(self.data), size)


def curate_pictures_inputs(config: PicturesConfig) -> StageInputs:
    """What the result of `curate_pictures` depends on; files by path, size and modification time, as in `curate`."""
    version = _VERSION if config.captions == "text" and not config.metadata_fields else _NAMES_VERSION
    return StageInputs(stage=STAGE, config=to_dict(config), fingerprint=picture_fingerprint(config), version=version)


def curate_pictures(
    sources: str | Path | Sequence[str | Path] | None = None,
    *,
    config: PicturesConfig | None = None,
    workspace: Workspace | str | Path | None = None,
    fresh: bool = False,
) -> Artifact:
    """Make a corpus of pictures with captions; an artifact of kind "pictures".

    `sources` overrides `config.sources`. Metrics: pictures, bytes and distinct captions per split, and pictures
    dropped by reason (duplicate, damaged). ConfigError for sources that are not there, DataError where no picture is
    left for training, MissingExtraError without Pillow.
    """
    workspace, config = as_workspace(workspace), config or PicturesConfig()
    if sources is not None:
        given = [sources] if isinstance(sources, (str, Path)) else sources
        config = replace(config, sources=tuple(str(source) for source in given))
    inputs = curate_pictures_inputs(config)
    if not fresh and (made := reusable(workspace, inputs)):
        return made
    from bloomery.energy import open_meter

    with Run(workspace, inputs, meter=open_meter()) as run:
        return _Pictures(run, config).work()


def read_pictures(corpus: Artifact, split: str) -> Iterator[Picture]:
    """The pictures of a split ("train", "validation" or "test"), streamed in a fixed order; DataError for a damaged
    shard, ConfigError for another split or kind."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if corpus.kind != PICTURES:
        raise ConfigError(f"{corpus.name} is a {corpus.kind}, not a corpus of pictures")
    if split not in SPLITS:
        raise ConfigError(f'a corpus has no split "{split}"', hint=nearest(split, SPLITS))
    for path in sorted(corpus.path.glob(f"{split}-*.parquet")):
        try:
            with ParquetFile(path) as file:
                for batch in file.iter_batches(_GROUP, use_threads=False):
                    for row in batch.to_pylist():
                        yield Picture(**{**row, "metadata": json.loads(row["metadata"])})
        except (pyarrow.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path} is no shard of pictures: {error}") from error


class _ShardWriter:
    """One split's pictures in Parquet shards."""

    def __init__(self, folder: Path, split: str, shard_bytes: int) -> None:
        self.folder, self.split, self.shard_bytes = folder, split, shard_bytes
        self.pictures = self.bytes = self._shards = self._held = 0
        self.captions: set[bytes] = set()
        self._rows: list[dict[str, Any]] = []
        self._writer: Any = None

    def write(self, picture: Picture) -> None:
        row = {**vars(picture), "metadata": json.dumps(picture.metadata, ensure_ascii=False, sort_keys=True)}
        self._rows.append(row)
        self.pictures += 1
        self.bytes += len(picture.data)
        self._held += len(picture.data)
        self.captions.add(hashlib.sha256(picture.caption.encode()).digest()[:12])
        if len(self._rows) >= _GROUP:
            self._flush()
        if self._held >= self.shard_bytes:
            self.close()

    def _flush(self) -> None:
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        kinds = {"data": pyarrow.binary(), "width": pyarrow.int32(), "height": pyarrow.int32()}
        names = ("id", "data", "caption", "width", "height", "source", "metadata")
        schema = pyarrow.schema([(name, kinds.get(name, pyarrow.string())) for name in names])
        if self._writer is None:
            path = self.folder / f"{self.split}-{self._shards:05}.parquet"
            # Pictures are compressed already.
            self._writer = ParquetWriter(path, schema, compression="NONE", use_dictionary=False)
            self._shards += 1
        self._writer.write_table(pyarrow.Table.from_pylist(self._rows, schema=schema))
        self._rows = []

    def close(self) -> None:
        if self._rows:
            self._flush()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._held = None, 0

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Pictures:
    """One run of the stage."""

    def __init__(self, run: Run, config: PicturesConfig) -> None:
        self.run, self.config = run, config
        self.problems = Problems(strict=config.strict)
        self.dropped: Counter[str] = Counter()
        self._damaged = ""
        self.folder = run.new_folder()

    def work(self) -> Artifact:
        with ExitStack() as stack:
            drops = stack.enter_context(LineWriter(self.folder / DROPPED_FILE))
            writers = {
                split: stack.enter_context(_ShardWriter(self.folder, split, self.config.shard_bytes))
                for split in SPLITS
            }
            seen = stack.enter_context(SeenDigests(self.run.scratch / "seen.sqlite"))
            with self.run.phase("read"):
                for found in self._shown():
                    self._place(found, seen, writers, drops)
        metrics = {
            "pictures": {split: writer.pictures for split, writer in writers.items()},
            "bytes": {split: writer.bytes for split, writer in writers.items()},
            "captions": {split: len(writer.captions) for split, writer in writers.items()},
            "dropped": dict(sorted(self.dropped.items())),
            "problems": self.problems.total,
        }
        if not writers["train"].pictures:
            raise self._nothing_left({split: writer.pictures for split, writer in writers.items()})
        if self.problems.total:
            self.run.note(f"{self.problems.total} problems in the sources, the first: {self.problems.first()}")
        report = {
            "config": to_dict(self.config),
            **metrics,
            "problem_counts": dict(sorted(self.problems.counts.items())),
        }
        report["first_problems"] = self.problems.listed
        text = json.dumps(report, indent=1, ensure_ascii=False, sort_keys=True)
        (self.folder / "report.json").write_bytes(text.encode("utf-8", "replace"))
        return self.run.publish(self.folder, kind=PICTURES, metrics=metrics)

    def _nothing_left(self, pictures: dict[str, int]) -> DataError:
        """The error for an empty training split, with a hint for the most frequent of its causes."""
        causes = self.problems.counts + Counter({reason: self.dropped[reason] for reason in ("damaged",)})
        elsewhere = sum(pictures.values())
        if elsewhere:
            said, hint = f"; validation and test have all {elsewhere:,}", _HINTS["elsewhere"]
        else:
            first = self.problems.first() or self._damaged
            said = f"; the first problem: {first}" if first else ""
            cause = causes.most_common(1)[0][0] if causes else ""
            if cause == "no_caption" and self.config.captions != "text":
                cause = "no_caption_in_rows"  # what has a name has that caption
            hint = _HINTS.get(cause, _HINTS["no_picture"])
        return DataError(f"no picture is left for training{said}", hint=hint)

    def _place(
        self, found: FoundPicture, seen: SeenDigests, writers: dict[str, _ShardWriter], drops: LineWriter
    ) -> None:
        pixels = hashlib.sha256(found.data)
        identity = pixels.copy()
        identity.update(b"\0" + found.caption.encode())
        if found.metadata:  # two questions may have one answer
            kept = json.dumps(found.metadata, sort_keys=True, ensure_ascii=False)
            identity.update(b"\0" + kept.encode("utf-8", "backslashreplace"))
        name = identity.hexdigest()[:16]
        if not seen.add(identity.digest()):
            self._drop(drops, name, found, "duplicate")
            return
        try:
            width, height = open_image(found.data, max_pixels=self.config.max_pixels).size
        except DataError as error:
            self._damaged = self._damaged or f"{found.source}: {error.message}"
            self._drop(drops, name, found, "damaged", error.message)
            return
        split = hash_split(
            pixels.digest(),
            validation_fraction=self.config.validation_fraction,
            test_fraction=self.config.test_fraction,
        )
        writers[split].write(Picture(name, found.data, found.caption, width, height, found.source, found.metadata))

    def _drop(self, drops: LineWriter, name: str, found: FoundPicture, reason: str, detail: str = "") -> None:
        self.dropped[reason] += 1
        drops.write({"id": name, "source": found.source, "reason": reason, "detail": detail})

    def _shown(self) -> Iterator[FoundPicture]:
        began = shown = time.monotonic()
        for done, found in enumerate(read_picture_sources(self.config, self.problems, self.run.note), 1):
            yield found
            if (now := time.monotonic()) - shown >= _PROGRESS_SECONDS:
                shown = now
                self.run.progress(done, None, unit="pictures", pictures_per_second=round(done / (now - began)))
