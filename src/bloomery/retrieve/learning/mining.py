"""Mining: passages that look as if they answered a question, and are not known to.

What a lexical search finds first is the hardest to tell from an answer, and the most likely to be one that nobody
judged (Qu et al., arXiv 2010.08191): the first few can be passed over. This module does not know how passages are
searched, nor what learns from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bloomery.core.errors import ConfigError
from bloomery.retrieve.chunk import Retriever
from bloomery.retrieve.learning.judgements import Judgements


@dataclass(frozen=True, kw_only=True)
class MiningConfig:
    """Which passages are taken."""

    count: int = 1
    """Hard negatives of each question."""
    depth: int = 30
    """They are drawn from so many that are found first."""
    skip: int = 0
    """Of these the first are passed over: the likeliest to be answers nobody judged."""
    seed: int = 0
    """Of the draw."""

    def __post_init__(self) -> None:
        if self.count < 0 or self.skip < 0 or self.depth - self.skip < self.count:
            raise ConfigError(f"{self.count} passages of places {self.skip + 1} to {self.depth}: too few")


def hard_negatives(
    retriever: Retriever, judgements: Judgements, config: MiningConfig | None = None
) -> dict[str, tuple[str, ...]]:
    """`count` passage names for each question, none of them known to answer it; passages drawn at random fill up where
    a search finds too few. The retriever's document ids are the passages' names."""
    config = config or MiningConfig()
    mined: dict[str, tuple[str, ...]] = {}
    names = sorted(judgements.passages)
    for place, (query, relevant) in enumerate(judgements.relevant.items()):
        rng = np.random.default_rng([config.seed, place])
        hits = retriever.search(judgements.queries[query], k=config.depth + len(relevant))
        found = dict.fromkeys(hit.chunk.document_id for hit in hits)
        usable = [name for name in found if name not in relevant and name in judgements.passages]
        pool = usable[config.skip : config.depth]
        chosen = [pool[n] for n in sorted(rng.permutation(len(pool))[: config.count].tolist())]
        mined[query] = tuple(_filled(chosen, config.count, names, relevant, rng))
    return mined


def _filled(
    chosen: list[str], count: int, names: list[str], relevant: frozenset[str], rng: np.random.Generator
) -> list[str]:
    if len(names) < count + len(relevant):
        raise ConfigError(f"{len(names)} passages are too few for {count} wrong ones of a question")
    while len(chosen) < count:
        name = names[int(rng.integers(len(names)))]
        if name not in relevant and name not in chosen:
            chosen.append(name)
    return chosen


def pairs_of(judgements: Judgements, mined: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str, float]]:
    """(question, passage, label) of everything that is known and mined: what a reranker learns from."""
    made: list[tuple[str, str, float]] = []
    for query, relevant in judgements.relevant.items():
        made += [(query, name, 1.0) for name in sorted(relevant)]
        made += [(query, name, 0.0) for name in mined.get(query, ())]
    return made
