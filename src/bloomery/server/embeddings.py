"""POST /v1/embeddings: vectors of texts or of token ids, as numbers or in base64.

Texts get the special tokens of the model around them; token ids are taken as they are. A text that the model cannot
read whole is refused, unless `truncate_prompt_tokens` (vLLM's name; -1: as the model was trained) asks to cut it.
This module does not know how requests wait.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from bloomery.core.errors import RequestError
from bloomery.core.quantity import Quantity
from bloomery.engine import TextEncoder
from bloomery.server.schemas import Priority, Seconds, Text, TokenIds, Whole, refuse_unsupported
from bloomery.server.waiting import DeadlinePassed, Job

ROUTE = "/v1/embeddings"
MAX_INPUTS = 2048  # OpenAI's
_BATCH = 32


class EmbeddingsBody(BaseModel):
    """`input` is one text or several, as text or as token ids; a list of numbers is one text."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: Text
    input: Text | Annotated[list[Text], Field(max_length=MAX_INPUTS)] | TokenIds | list[TokenIds]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[Whole, Field(ge=1, le=2**20)] | None = None
    truncate_prompt_tokens: Annotated[Whole, Field(ge=-1, le=2**31 - 1)] | None = None
    priority: Priority | None = None
    timeout_seconds: Seconds | None = None

    def inputs(self) -> list[str] | list[list[int]]:
        """RequestError for none or too many, and for parameters that are not supported."""
        refuse_unsupported(self.model_extra or {}, type(self).model_fields)
        if isinstance(self.input, str):
            return [self.input]
        if not self.input:
            raise RequestError("input is an empty list", param="input", code="invalid_value")
        if isinstance(self.input[0], int):
            return [cast(list[int], self.input)]
        if len(self.input) > MAX_INPUTS:
            raise RequestError(f"{len(self.input):,} inputs are more than {MAX_INPUTS:,}", param="input")
        return cast(list[str] | list[list[int]], self.input)


def encode_inputs(model: TextEncoder, body: EmbeddingsBody) -> list[list[int]]:
    """Token ids of every input. RequestError for one that the model cannot read whole and that may not be cut, for an
    empty one, and for dimensions that the model does not have."""
    if body.dimensions is not None and body.dimensions not in model.dimensions:
        raise RequestError(
            f"{model.name} does not give {body.dimensions} dimensions",
            hint=_dimensions_hint(model),
            param="dimensions",
            code="invalid_value",
        )
    cut = body.truncate_prompt_tokens
    limit = None if cut is None else min(model.text_length, model.text_length if cut == -1 else cut)
    return [_ids(model, one, limit, place) for place, one in enumerate(body.inputs())]


def _ids(model: TextEncoder, one: str | list[int], limit: int | None, place: int) -> list[int]:
    if isinstance(one, list):
        ids = one if limit is None else one[:limit]
    elif limit is None:
        ids = model.encode(one)
    else:
        ids = model.tokenizer.encode_with_special(one, max_length=limit)[0]
    if len(ids) > model.text_length:
        raise RequestError(
            f"input {place} has {len(ids):,} tokens; {model.name} reads {model.text_length:,}",
            hint="cut it, or ask for truncate_prompt_tokens: -1",
            param="input",
            code="context_length_exceeded",
        )
    if not ids:
        raise RequestError(f"input {place} has no tokens", param="input", code="invalid_value")
    model.check_ids(ids)
    return ids


@dataclass(kw_only=True)
class Embedding:
    """The work of one request: `run` in a worker thread, then `answer`."""

    model: TextEncoder
    rows: Sequence[Sequence[int]]
    job: Job
    vectors: dict[int, np.ndarray] = field(default_factory=dict)
    energy: Quantity = field(default_factory=Quantity.unknown)
    seconds: float = 0.0

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.rows))

    def run(self) -> Iterator[int]:
        """How many vectors there are so far, batch by batch; stops when the job is cancelled. DeadlinePassed when its
        time is over."""
        phase = self.model.phase()
        batches = self.model.embed_ids(self.rows, batch_size=_BATCH, phase=phase)
        while not self.job.cancel.is_set():
            if self.job.seconds_left == 0:
                self.energy, self.seconds = phase.energy(), phase.seconds
                raise DeadlinePassed(self.job.seconds or 0.0)
            batch = next(batches, None)
            if batch is None:
                break
            self.vectors.update(zip(*batch, strict=True))
            yield len(self.vectors)
        self.energy, self.seconds = phase.energy(), phase.seconds

    def answer(self, body: EmbeddingsBody) -> dict[str, Any]:
        """OpenAI's list of embeddings; `energy_joules` and `timings` are extensions of its usage."""
        written = [_write(self._cut(self.vectors[n], body.dimensions), body) for n in range(len(self.rows))]
        return {
            "object": "list",
            "data": [{"object": "embedding", "index": n, "embedding": one} for n, one in enumerate(written)],
            "model": self.model.name,
            "created": int(time.time()),
            "usage": {
                "prompt_tokens": self.prompt_tokens,
                "total_tokens": self.prompt_tokens,
                "energy_joules": self.energy.to_dict(),
                "timings": {"queue_seconds": self.job.queue_seconds, "prefill_seconds": self.seconds},
            },
        }

    def _cut(self, vector: np.ndarray, dimensions: int | None) -> np.ndarray:
        if dimensions is None or dimensions == len(vector):
            return vector
        short = vector[:dimensions]
        # A cut vector has length one again where the whole one had.
        return short / max(float(np.linalg.norm(short)), 1e-12) if self.model.pooling.normalize else short


def _write(vector: np.ndarray, body: EmbeddingsBody) -> list[float] | str:
    """Numbers, or the base64 of little-endian float32, which Node clients ask for."""
    if body.encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
    return [float(x) for x in vector]


def _dimensions_hint(model: TextEncoder) -> str:
    own = sorted(model.dimensions)
    return f"it has {own[0]}" if len(own) == 1 else "it has " + ", ".join(map(str, own[-8:]))
