"""IndexConfig: what an index is made of; fixed when it is made, for all its parts have to fit.

This module does not know how any of it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError
from bloomery.retrieve.cutting.config import CutConfig
from bloomery.retrieve.store.schema import FILE, Tables, read_fact
from bloomery.retrieve.store.terms import Words
from bloomery.retrieve.store.vector_file import Precision


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    cut: CutConfig = field(default_factory=CutConfig)
    """How documents are cut into chunks."""
    words: Words = "porter"
    """How texts become terms: words with Porter's stems, the words alone, or runs of three characters, for scripts
    without spaces."""
    embedder: str = ""
    """The encoder of vectors: a folder, artifact, hub id, "minilm", or an endpoint's address; "" is none."""
    embedder_model: str = ""
    """As the endpoint calls it."""
    query_prefix: str = ""
    """Stands before a query that is embedded: E5's are "query: " and "passage: "."""
    passage_prefix: str = ""
    """Stands before a chunk that is embedded."""
    precision: Precision = "float32"
    """Of vectors on disk: float16 needs half the room and more time."""
    id_field: str = ""
    """The metadata field that names a document; "": its source, with its content where a source holds several."""
    title_field: str = "title"
    """The metadata field that holds a document's title: the outermost heading of its chunks."""

    def __post_init__(self) -> None:
        if self.embedder_model and "://" not in self.embedder:
            raise ConfigError('"embedder_model" names the model of an endpoint', hint="embedder = its address")


def require_same(config: IndexConfig | None, known: IndexConfig, where: str) -> IndexConfig:
    """What the index was made with. ConfigError where another is asked for."""
    if config is not None and config != known:
        mine, theirs = to_dict(config), to_dict(known)
        other = sorted(name for name in mine if mine[name] != theirs[name])
        raise ConfigError(
            f"the index in {where} was made with another {', '.join(other)}",
            hint="leave it as it was, or make the index anew with --fresh, or another one",
        )
    return known


def require_embedder(name: str, known: str | None, where: str) -> None:
    """ConfigError where vectors of this embedder do not fit those of an index. `known` None: it does not say."""
    if known is not None and name != known:
        raise ConfigError(
            f"the vectors of the index in {where} are those of {known}, and this embedder is {name}: other weights",
            hint="bring back the weights that it was made with, or make the index anew with --fresh",
        )


def kept_config(folder: Path) -> IndexConfig | None:
    """What the index in a folder was made with; None without one."""
    if not (folder / FILE).is_file():
        return None
    tables = Tables(folder, create=False)
    try:
        with tables.reading() as db:
            told = read_fact(db, "config")
    finally:
        tables.close()
    return None if told is None else from_dict(IndexConfig, told, where="index")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How an index is searched; may change with every search."""

    mode: Literal["auto", "lexical", "vector", "hybrid"] = "auto"
    """By words, by meaning, or both; auto is both where there are vectors."""
    k1: float = 0.9
    """How soon a term that comes again says no more (BM25)."""
    b: float = 0.4
    """How far long chunks are held to be long rather than full (BM25), from 0 to 1."""
    words_of: Literal["chunk", "document"] = "chunk"
    """Whose words a query's are held to: a chunk's own, or those of its whole document. Short chunks are found better
    by meaning and worse by words of their own."""
    fusion: Literal["ranks", "scores"] = "scores"
    """How rankings become one: by places, or by scores, which is better where it was measured (docs/retrieval.md)."""
    lexical_weight: float = 1.0
    vector_weight: float = 1.0
    depth: int = 300
    """Chunks of each ranking that are joined; k, where that is more."""
    exact_rows: int = 200_000
    """More vectors than this are searched by a graph (usearch), where there is one, and not all of them."""

    def __post_init__(self) -> None:
        if not (0 <= self.k1 <= 100 and 0 <= self.b <= 1):
            raise ConfigError(f"BM25 has k1 from 0 to 100 and b from 0 to 1, not {self.k1} and {self.b}")
        if min(self.lexical_weight, self.vector_weight) < 0 or self.lexical_weight + self.vector_weight <= 0:
            raise ConfigError("weights of rankings are 0 or more, and not both 0")
        if not 1 <= self.depth <= 10_000:
            raise ConfigError(f'"depth" is {self.depth}, but should be from 1 to 10,000')
