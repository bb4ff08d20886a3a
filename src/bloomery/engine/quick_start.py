"""Quick start: the second time that a model is asked for a text by a new process, it answers without PyTorch.

Importing PyTorch takes longer than what a small model then does. A model whose steps are native is kept as an image of
its memory once it has answered; where that is found again, the text is computed from it: the same calls, the same
tokens. Images lie in the cache folder's `images`, at most `MAX_BYTES` in one and `MAX_ALL_BYTES` together, those asked
for longest ago are thrown away, and a disk that has little room gets none; BLOOMERY_IMAGES=off leaves all that out.
What is kept belongs to the files as they lay there (their names, sizes and times of change), to this machine, and to
the versions of bloomery, PyTorch and the native library. This module does not know the command line, nor does it look
at what needs more than text, or at models on the hub, which may have changed there: these are left to `language_model`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery import __version__
from bloomery.core.config import digest
from bloomery.core.errors import BloomeryError
from bloomery.core.workspace import LATEST
from bloomery.energy import open_meter
from bloomery.engine.finding import find_model
from bloomery.engine.generation import Generation
from bloomery.engine.metering import Bench
from bloomery.engine.params import SamplingParams
from bloomery.engine.plain_sampling import PlainSampler, supported
from bloomery.engine.results import Delta
from bloomery.models.native.build import digest as sources
from bloomery.models.native.image import Image
from bloomery.models.native.library import OFF_VARIABLE, library
from bloomery.models.native.machine import cached, processor
from bloomery.models.native.session import Session
from bloomery.tokenizer import Tokenizer

if TYPE_CHECKING:
    from bloomery.core.workspace import Workspace
    from bloomery.engine.language_model import LanguageModel

log = logging.getLogger("bloomery.engine")

IMAGES_VARIABLE = "BLOOMERY_IMAGES"
"""Set to "off" in the environment: no image is kept or looked for."""
MAX_BYTES, MAX_ALL_BYTES = 1 << 30, 4 << 30
_FREE_SHARE = 4
"""How many times its size is to be free on the disk before an image is kept."""
_SECONDS_OF_WRITING = 3600
_POSITIONS = 4096
"""Tokens that a text from an image may have."""
_SETTINGS = (OFF_VARIABLE, "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What in the environment changes how a model is computed."""


class QuickModel:
    """A model's image and its tokenizer."""

    def __init__(self, image: Image, tokenizer: Tokenizer) -> None:
        self.image, self.tokenizer = image, tokenizer

    def stream(self, prompt: str, options: Mapping[str, Any]) -> Iterator[Delta] | None:
        """Deltas as `LanguageModel.stream` has them; None for a request that is not for an image. RequestError for
        options that are out of range."""
        params = SamplingParams(**options)
        ids = self.tokenizer.encode(prompt, add_bos=self.tokenizer.adds_bos)
        positions = len(ids) + params.max_new_tokens - 1
        if not ids or max(ids) >= self.image.model.vocabulary or params.max_new_tokens < 1:
            return None  # who says what is wrong knows more of the model
        if not supported(params) or positions > self.image.facts.positions:
            return None
        return self._deltas(ids, params, Session(self.image, positions))

    def _deltas(self, ids: Sequence[int], params: SamplingParams, session: Session) -> Iterator[Delta]:
        bench, sampler = Bench(open_meter()), PlainSampler(params)
        try:
            generation = Generation(
                self.tokenizer,
                ids,
                params,
                sampler=sampler,
                max_new_tokens=params.max_new_tokens,
                continues=True,
                bench=bench,
            )
            generation.begin()
            new = ids
            while not generation.finished:
                with bench.step() as step:
                    row = session.read(new)
                    # A vocabulary may be padded for speed: a row that has no token cannot be chosen.
                    token = sampler.choose(row.logits[: generation.num_words], row.best)
                generation.spend(step.seconds, 1.0)
                generation.prefilled()
                yield generation.accept(token, row)
                new = [token]
        finally:
            bench.meter.close()


def quick_model(reference: str, workspace: Workspace, weights: str | None) -> QuickModel | None:
    """The model as it was kept; None where it was not, or anything about it is unusual."""
    if os.environ.get(IMAGES_VARIABLE) == "off" or library().calls is None:
        return None
    try:
        if not images_folder().is_dir():
            return None
        folder, _ = find_model(reference or LATEST, workspace, hasty=True)
        key = _key(folder, weights)
        image = Image(images_folder() / key, key)
        tokenizer = Tokenizer.load(folder)
    except (BloomeryError, OSError) as problem:  # the usual way says what is wrong, if anything is
        log.debug("no quick start: %s", problem)
        return None
    log.info("decode steps: %s, from an image", library().text)
    with contextlib.suppress(OSError):
        os.utime(images_folder() / key)
    return QuickModel(image, tokenizer)


def keep(model: LanguageModel, reference: str, workspace: Workspace, weights: str | None) -> int | None:
    """Keep a model that has answered as an image; returns its bytes, None where it is of a kind that is not kept, or
    there is no room."""
    if os.environ.get(IMAGES_VARIABLE) == "off" or type(model).__name__ != "LanguageModel":
        return None
    runner = model.engine.runner
    if runner.native is None or not runner.native_prompts:
        return None
    size = runner.native.description.nbytes + 4 * model.config.vocab_size * model.config.hidden_size
    try:
        images_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        if size > MAX_BYTES or _FREE_SHARE * size > shutil.disk_usage(images_folder()).free:
            return None
        folder, _ = find_model(reference or LATEST, workspace, hasty=True)
        key = _key(folder, weights)
        _make_room(size)
        positions = min(_POSITIONS, model.engine.capacity)
        return runner.native.keep(images_folder() / key, key, positions, runner.memory.keys[0].dtype)
    except (BloomeryError, OSError, RuntimeError) as problem:  # a cache: nothing is lost but time
        log.info("not kept as an image: %s", problem)
        return None


def told_of_images() -> str:
    """What is kept and where, in words."""
    if os.environ.get(IMAGES_VARIABLE) == "off":
        return f"none are kept for quick starts: {IMAGES_VARIABLE}=off"
    try:
        sizes = [one.stat().st_size for one in images_folder().iterdir()] if images_folder().is_dir() else []
        return f"{len(sizes)} kept for quick starts, {sum(sizes) / 1e6:.0f} MB in {images_folder()}"
    except OSError as error:
        return f"none are kept for quick starts: {error}"


def _make_room(size: int) -> None:
    """Throw away what a killed process left half written, and images, those asked for longest ago, until one of that
    size fits."""
    held = 0
    for one in sorted(images_folder().iterdir(), key=lambda one: -one.stat().st_mtime):
        status = one.stat()
        half = one.suffix == ".partial"
        if half and time.time() - status.st_mtime < _SECONDS_OF_WRITING:
            continue
        held += status.st_size
        if half or held + size > MAX_ALL_BYTES:
            one.unlink()


def _key(folder: Path, weights: str | None) -> str:
    """What an image is kept by: 64 hex digits."""
    files = sorted(one for one in folder.iterdir() if one.is_file())
    seen = [(one.name, status.st_size, status.st_mtime_ns, status.st_ino) for one in files if (status := one.stat())]
    machine = [processor(), os.cpu_count(), _processors(), Path("/dev/nvidiactl").exists()]
    settings = [os.environ.get(name) for name in _SETTINGS]
    return digest([__version__, sources(), library().text, _torch_version(), machine, settings, weights, seen])


def _processors() -> int | None:
    """How many of them this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _torch_version() -> str:
    try:
        return version("torch")
    except PackageNotFoundError:
        return "unknown"


def images_folder() -> Path:
    """Of images. OSError for a user who has no home."""
    try:
        return cached("images")
    except RuntimeError as error:
        raise OSError(str(error)) from error
