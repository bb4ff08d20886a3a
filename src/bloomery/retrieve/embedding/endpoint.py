"""EmbeddingEndpoint: vectors by any server with OpenAI's /v1/embeddings, asked as `core.endpoint` asks for chats.

This module does not know what texts are for.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bloomery.core.endpoint import INTERRUPTED, Endpoint, EndpointConfig
from bloomery.core.errors import DataError, RequestError
from bloomery.retrieve.embedding.embedder import unit

_ROUTE = "/embeddings"
_MOST_TEXTS = 64


class EmbeddingEndpoint:
    """See the module. MissingExtraError without httpx, ConfigError for a key that would be sent in the open."""

    def __init__(self, config: EndpointConfig) -> None:
        self.config = config
        self._endpoint = Endpoint(config)

    @classmethod
    def of(cls, url: str, model: str) -> EmbeddingEndpoint:
        """By address (http://127.0.0.1:8000/v1) and the model's name there."""
        return cls(EndpointConfig(url=url, model=model))

    @property
    def name(self) -> str:
        return self._endpoint.name

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """(N, E) float32. RequestError for what the server refuses, or does not mend within the attempts."""
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found: dict[int, np.ndarray] = {}
        for start in range(0, len(order), _MOST_TEXTS):
            chosen = order[start : start + _MOST_TEXTS]
            found |= dict(zip(chosen, self._asked([texts[place] for place in chosen]), strict=True))
        if not found:
            return np.zeros((0, 0), np.float32)
        if len({len(vector) for vector in found.values()}) > 1:
            raise self._error("sent vectors of several lengths")
        return unit(np.stack([found[place] for place in range(len(texts))]))

    def close(self) -> None:
        """Ends the waits of those who try again, too."""
        self._endpoint.close()

    def _asked(self, texts: Sequence[str]) -> list[np.ndarray]:
        body = {"model": self.config.model, "input": list(texts), "encoding_format": "float"}
        told, _ = self._endpoint.post(_ROUTE, body)
        try:
            return vectors_of(told, len(texts))
        except DataError as error:
            raise self._error(f"sent no vectors: {error.message}") from error

    def _error(self, said: str) -> RequestError:
        return RequestError(f"{self.name} {said}", code=INTERRUPTED, status=502)


def vectors_of(answer: Any, count: int) -> list[np.ndarray]:
    """The vectors of an answer in the order of the inputs, from numbers or base64. DataError for anything else."""
    rows = answer.get("data") if isinstance(answer, Mapping) else None
    if not isinstance(rows, list) or len(rows) != count:
        raise DataError(f"not {count} vectors")
    found: dict[int, np.ndarray] = {}
    for place, row in enumerate(rows):
        told = row.get("embedding") if isinstance(row, Mapping) else None
        try:
            raw = np.frombuffer(base64.b64decode(told, validate=True), "<f4") if isinstance(told, str) else told
            vector = np.array(raw, np.float32)
        except (TypeError, ValueError) as error:
            raise DataError(f"a vector that is none: {error}") from error
        if vector.ndim != 1 or not len(vector) or not np.isfinite(vector).all():
            raise DataError("a vector that is none")
        index = row.get("index", place)
        found[index if isinstance(index, int) else place] = vector
    if sorted(found) != list(range(count)):
        raise DataError("vectors without their places")
    return [found[place] for place in range(count)]
