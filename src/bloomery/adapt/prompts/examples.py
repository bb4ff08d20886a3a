"""Examples: which labelled samples a prompt shows before the question.

Drawn once and balanced, the nearest to each question (Liu et al., 2022, arXiv 2101.06804), near and unlike each other
(maximal marginal relevance, Carbonell and Goldstein, 1998), or the same for all and far from each other (k-centre,
Gonzalez, 1985). The question itself is never among them. This module does not know prompts or models.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bloomery.adapt.prompts.template import ExampleSettings, PromptTemplate, Shot
from bloomery.core.errors import ConfigError, MissingExtraError
from bloomery.evaluate.sample import Sample

Embed = Callable[[Sequence[str]], NDArray[Any]]
"""Texts to vectors (N, E): an encoder's `embed`."""


class ExampleChooser(Protocol):
    """Safe to use from several threads."""

    def choose(self, sample: Sample) -> tuple[Sample, ...]:
        """The examples for a question, in the order in which they are shown."""
        ...


class FixedExamples:
    """The same ones for every question, without the question itself."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = tuple(samples)

    def choose(self, sample: Sample) -> tuple[Sample, ...]:
        return tuple(one for one in self.samples if not _same(one, sample))


class Similarity:
    """Cosines between texts: of TF-IDF vectors of their words and pairs of words, or of an encoder's vectors."""

    def __init__(self, texts: Sequence[str], embed: Embed | None = None) -> None:
        """MissingExtraError without scikit-learn, where there is no encoder."""
        self._embed = embed
        if embed is None:
            try:
                from sklearn.feature_extraction.text import TfidfVectorizer
            except ImportError as error:
                raise MissingExtraError("scikit-learn", "adapt", "choosing examples by their words") from error
            self._words = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(1, 2), sublinear_tf=True)
            try:
                self._vectors: Any = self._words.fit_transform(texts)
            except ValueError:  # no text holds a word
                raise ConfigError("the examples hold no words", hint='examples.how = "fixed"') from None
        else:
            self._vectors = _of_length_one(np.asarray(embed(list(texts)), dtype=np.float64))

    def to(self, text: str) -> NDArray[np.float64]:
        """(N,) cosines of a text to each."""
        if self._embed is None:
            asked: Any = self._words.transform([text])
            return (self._vectors @ asked.T).toarray()[:, 0]
        return self._vectors @ _of_length_one(np.asarray(self._embed([text]), dtype=np.float64))[0]

    def between(self, places: Sequence[int]) -> NDArray[np.float64]:
        """(N, len(places)) cosines of all to some."""
        found = self._vectors @ self._vectors[list(places)].T
        return found if isinstance(found, np.ndarray) else found.toarray()


class NearestExamples:
    """The most similar to each question, the nearest last: beside the question."""

    def __init__(self, pool: Sequence[Sample], count: int, similarity: Similarity) -> None:
        self.pool, self.count, self._similarity = tuple(pool), count, similarity

    def choose(self, sample: Sample) -> tuple[Sample, ...]:
        return tuple(self.pool[place] for place in reversed(self._nearest(sample, self.count)))

    def _nearest(self, sample: Sample, count: int) -> list[int]:
        order = np.argsort(-self._similarity.to(sample.input), kind="stable")
        return [int(place) for place in order if not _same(self.pool[place], sample)][:count]


class DiverseExamples(NearestExamples):
    """By maximal marginal relevance among the `_AMONG` nearest, the first chosen last."""

    _AMONG = 200

    def __init__(self, pool: Sequence[Sample], count: int, similarity: Similarity, *, balance: float = 0.5) -> None:
        super().__init__(pool, count, similarity)
        self.balance = balance

    def choose(self, sample: Sample) -> tuple[Sample, ...]:
        among = self._nearest(sample, max(self._AMONG, self.count))
        relevance = self._similarity.to(sample.input)[among]
        alike = self._similarity.between(among)[among]
        chosen = mmr(relevance, alike, self.count, self.balance)
        return tuple(self.pool[among[place]] for place in reversed(chosen))


def mmr(relevance: NDArray[np.float64], alike: NDArray[np.float64], count: int, balance: float) -> list[int]:
    """Places in the order chosen: each maximises balance * relevance - (1 - balance) * the greatest likeness to one
    chosen before. `relevance` (N,), `alike` (N, N)."""
    chosen: list[int] = []
    closest = np.full(len(relevance), -np.inf)
    for _ in range(min(count, len(relevance))):
        worth = relevance if not chosen else balance * relevance - (1 - balance) * closest
        worth = worth.copy()
        worth[chosen] = -np.inf
        best = int(np.argmax(worth))
        chosen.append(best)
        closest = np.maximum(closest, alike[:, best])
    return chosen


def k_centres(similarity: Similarity, total: int, count: int, first: int) -> list[int]:
    """Places of which each is the farthest from those before it; at most twice the best possible radius."""
    chosen = [first]
    closest = similarity.between([first])[:, 0]
    while len(chosen) < min(count, total):
        closest[chosen] = np.inf
        farthest = int(np.argmin(closest))
        chosen.append(farthest)
        closest = np.maximum(closest, similarity.between([farthest])[:, 0])
    return chosen


def balanced(pool: Sequence[Sample], count: int, seed: int) -> tuple[Sample, ...]:
    """So many drawn at random, as even a share of each answer as there can be, in a random order; the same for the
    same seed. Free answers are all different: a plain draw."""
    rng = random.Random(seed)
    by_answer: dict[str, list[Sample]] = {}
    for sample in rng.sample(list(pool), len(pool)):
        by_answer.setdefault(sample.targets[0] if sample.targets and sample.choices else "", []).append(sample)
    groups = [by_answer[answer] for answer in sorted(by_answer)]
    rng.shuffle(groups)
    chosen: list[Sample] = []
    while len(chosen) < count and any(groups):
        chosen += [group.pop() for group in groups if group][: count - len(chosen)]
    return tuple(rng.sample(chosen, len(chosen)))


def chooser(template: PromptTemplate, pool: Sequence[Sample] = (), embed: Embed | None = None) -> ExampleChooser:
    """What a template's settings ask for. ConfigError where they need labelled samples or an encoder that are not
    there."""
    settings: ExampleSettings = template.examples
    if template.shots:
        return FixedExamples([shot_sample(number, shot) for number, shot in enumerate(template.shots)])
    if not settings.count:
        return FixedExamples(())
    labelled = [sample for sample in pool if sample.targets]
    if not labelled:
        raise ConfigError(
            f"prompt {template.name} shows {settings.count} examples, but there are none to choose from",
            hint="labelled samples (--train FILE), or [[shots]] in the prompt",
        )
    if settings.how == "fixed":
        return FixedExamples(balanced(labelled, settings.count, settings.seed))
    if settings.similarity == "embeddings" and embed is None:
        raise ConfigError('similarity = "embeddings" needs an encoder', hint='similarity = "words" needs none')
    similarity = Similarity([one.input for one in labelled], embed if settings.similarity == "embeddings" else None)
    if settings.how == "nearest":
        return NearestExamples(labelled, settings.count, similarity)
    if settings.how == "diverse":
        return DiverseExamples(labelled, settings.count, similarity, balance=settings.balance)
    first = random.Random(settings.seed).randrange(len(labelled))
    return FixedExamples([labelled[place] for place in k_centres(similarity, len(labelled), settings.count, first)])


def shot_sample(number: int, shot: Shot) -> Sample:
    """A prompt's own example as a sample."""
    return Sample(
        id=f"shot-{number}",
        input=shot.input,
        targets=(shot.answer,),
        choices=shot.choices,
        metadata={"thinking": shot.thinking},
    )


def sample_shot(sample: Sample) -> Shot:
    """A labelled sample as an example that a prompt keeps."""
    thinking = str(sample.metadata.get("thinking", ""))
    return Shot(input=sample.input, answer=sample.targets[0], thinking=thinking, choices=sample.choices)


def _same(one: Sample, other: Sample) -> bool:
    return (one.id == other.id and one.choices == other.choices) or one.input == other.input


def _of_length_one(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
