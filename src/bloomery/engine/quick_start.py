"""Quick start: the second time that a model is asked for a text by a new process, it answers without PyTorch.

Importing PyTorch takes longer than what a small model then does. A model whose steps are native is kept as an image of
its memory once it has answered (see `images`); where that is found again, the text is computed from it: the same calls,
the same logits, and the same tokens but where a draw falls within a rounding of the bound between two. This module does
not know the command line, nor does it look at what needs more than text: such requests are left to `language_model`.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BloomeryError
from bloomery.energy import open_meter
from bloomery.engine.generation import Generation
from bloomery.engine.images import Wanted, has_room, make_room
from bloomery.engine.metering import Bench
from bloomery.engine.params import SamplingParams
from bloomery.engine.plain_sampling import PlainSampler, supported
from bloomery.engine.results import Delta
from bloomery.models.native.image import Image
from bloomery.models.native.library import library
from bloomery.models.native.session import Session
from bloomery.tokenizer import Tokenizer

if TYPE_CHECKING:
    from bloomery.engine.language_model import LanguageModel

log = logging.getLogger("bloomery.engine")

_POSITIONS = 4096
"""Tokens that a text from an image may have."""


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
            token: int | None = None
            while not generation.finished:
                with bench.step() as step:
                    row = session.prefill(ids) if token is None else session.step(token)
                    # A vocabulary may be padded for speed: a row that has no token cannot be chosen.
                    token = sampler.choose(row.logits[: generation.num_words], row.best)
                generation.spend(step.seconds, 1.0)
                generation.prefilled()
                yield generation.accept(token, row)
        finally:
            bench.meter.close()


def quick_model(wanted: Wanted) -> QuickModel | None:
    """The model as it was kept; None where it was not, or cannot be read."""
    try:
        image = Image(wanted.path, wanted.key)
        tokenizer = Tokenizer.load(wanted.folder)
    except (BloomeryError, OSError) as problem:  # the usual way says what is wrong, if anything is
        log.debug("no quick start: %s", problem)
        return None
    log.info("decode steps: %s, from an image", library().text)
    with contextlib.suppress(OSError):
        os.utime(wanted.path)  # asked for just now
    return QuickModel(image, tokenizer)


def keep(
    model: LanguageModel, wanted: Wanted, now: Wanted | None, note: Callable[[int], None] = lambda size: None
) -> int | None:
    """Keep a model that has answered as an image; returns its bytes, None where it is kept already or of a kind that is
    not, or there is no room. `wanted` is what it was before it was loaded, and `now`: where they differ its files may
    be others than those that were read. `note` is told how many bytes will be written."""
    from bloomery.engine.language_model import LanguageModel

    if wanted != now or type(model) is not LanguageModel or not model.engine.runner.native_prompts:
        return None
    runner = model.engine.runner
    try:
        with contextlib.suppress(BloomeryError):
            Image(wanted.path, wanted.key)
            return None
        positions = min(_POSITIONS, model.engine.capacity)
        new = runner.native.imaged(positions, runner.memory.keys[0].dtype) if runner.native is not None else None
        if new is None or not has_room(new.nbytes):
            return None
        note(new.nbytes)
        make_room(new.nbytes)
        return new.write(wanted.path, wanted.key, str(wanted.folder.resolve()))
    except (BloomeryError, OSError, RuntimeError) as problem:  # a cache: nothing is lost but time
        log.info("not kept as an image: %s", problem)
        return None
