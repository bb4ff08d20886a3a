"""Similarity: how near in meaning an answer is to a target, as an encoder of sentences sees it.

The cosine of two embeddings (Reimers and Gurevych, arXiv 1908.10084), below 0 told as 0. It does not see negations,
numbers or names well: hold it against people's judgement before it decides anything. This module does not know
encoders: anything that gives a text a vector will do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np

from bloomery.core.errors import ConfigError
from bloomery.evaluate.sample import Answered, Sample, Score
from bloomery.evaluate.scorers.given import MAX_CHARACTERS, nothing, without_target

Embed = Callable[[Sequence[str]], Any]
"""Texts to vectors (N, E)."""
_KEPT = 4096


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """`embed` is the encoder's function; else `model` is what `bloomery.load` opens, once it is needed."""

    embed: Embed | None = None
    model: str = ""
    threshold: float | None = None
    """From this cosine on the answer is right (1), below it wrong (0); None: the cosine itself."""
    _kept: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (self.embed is None) == (not self.model):
            raise ConfigError("similarity takes one encoder", hint='model = "a folder or hub id of a sentence encoder"')

    @property
    def name(self) -> str:
        return "similarity" if self.threshold is None else f"similarity (from {self.threshold:g})"

    def score(self, sample: Sample, answered: Answered) -> Score:
        if (worthless := nothing(self.name, sample, answered)) is not None:
            return worthless
        targets = [target for target in sample.targets if target.strip()]
        if not targets:
            return without_target(self.name, sample)
        vectors = self._vectors([answered.text[:MAX_CHARACTERS], *targets])
        cosines = [float(vectors[0] @ one) for one in vectors[1:]]
        best = max(cosines)
        value = min(1.0, max(0.0, best)) if self.threshold is None else float(best >= self.threshold)
        return Score(sample_id=sample.id, scorer=self.name, value=value, details={"cosine": best})

    def _vectors(self, texts: list[str]) -> list[np.ndarray]:
        """Of length 1; those of targets are kept."""
        with self._lock:
            new = [text for text in dict.fromkeys(texts) if text not in self._kept]
            made = dict(zip(new, self._embedded(new), strict=True)) if new else {}
            found = [made[text] if text in made else self._kept[text] for text in texts]
            if len(self._kept) < _KEPT:
                self._kept.update((text, made[text]) for text in texts[1:] if text in made)
        return found

    def _embedded(self, texts: list[str]) -> np.ndarray:
        if self.embed is None:
            from bloomery.engine import TextEncoder, load

            found = load(self.model)
            if not isinstance(found, TextEncoder):
                raise ConfigError(f"{self.model!r:.80} embeds no texts", hint="a sentence encoder does")
            object.__setattr__(self, "embed", found.embed)
        assert self.embed is not None
        vectors = np.asarray(self.embed(texts), np.float64)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
