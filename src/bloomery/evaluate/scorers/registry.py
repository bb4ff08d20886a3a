"""Registry: scorers by the names that task files know: `metrics = ["exact", "numeric"]`, with settings of their own in
`[options.numeric]`.

This module does not know tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError, nearest
from bloomery.evaluate.sample import Answered, Sample, Scorer
from bloomery.evaluate.scorers.choice import Choice
from bloomery.evaluate.scorers.code import Code
from bloomery.evaluate.scorers.exact import Exact
from bloomery.evaluate.scorers.numeric import Numeric
from bloomery.evaluate.scorers.overlap import Bleu, ChrF, Rouge
from bloomery.evaluate.scorers.similarity import Similarity
from bloomery.evaluate.scorers.squad import Squad
from bloomery.evaluate.scorers.structure import JsonSchema, Pattern


@runtime_checkable
class CorpusScorer(Protocol):
    """A scorer whose figure over all samples is not the mean of theirs."""

    def corpus(self, samples: Sequence[Sample], answers: Sequence[Answered]) -> dict[str, Any]:
        """{"value", "signature"}."""
        ...


_KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "exact": (Exact, {}),
    "includes": (Exact, {"match": "within"}),
    "choice": (Choice, {}),
    "numeric": (Numeric, {}),
    "f1": (Squad, {}),
    "squad_exact": (Squad, {"measure": "exact"}),
    "bleu": (Bleu, {}),
    "chrf": (ChrF, {}),
    "chrf++": (ChrF, {"word_order": 2}),
    **{kind: (Rouge, {"kind": kind}) for kind in ("rouge1", "rouge2", "rougeL", "rougeLsum")},
    "json_schema": (JsonSchema, {}),
    "pattern": (Pattern, {}),
    "similarity": (Similarity, {}),
    "code": (Code, {}),
}
_MORE: dict[str, Callable[[Mapping[str, Any]], Scorer]] = {}


def scorer_names() -> list[str]:
    """All that `make_scorer` knows."""
    return sorted({*_KINDS, *_MORE})


def add_scorer(name: str, make: Callable[[Mapping[str, Any]], Scorer]) -> None:
    """A scorer of one's own: `make` takes the other keys of its table. ConfigError for a name that is taken."""
    if name in _KINDS or name in _MORE:
        raise ConfigError(f'there is a scorer "{name}" already')
    _MORE[name] = make


def make_scorer(spec: str | Mapping[str, Any], *, where: str = "scorers") -> Scorer:
    """From a name, or a table with a name and settings. ConfigError for what is not known, MissingExtraError, with the
    pip line, for what is not installed: before anything is asked."""
    table = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = table.pop("name", None)
    if not isinstance(name, str) or (name not in _KINDS and name not in _MORE):
        raise ConfigError(f"{where}: there is no scorer {name!r:.60}", hint=nearest(str(name), scorer_names()))
    if name in _MORE:
        return _MORE[name](table)
    kind, preset = _KINDS[name]
    if hidden := [key for key in table if key.startswith("_") or key == "embed"]:
        raise ConfigError(f'unknown key "{where}.{hidden[0]}"')
    made = _built(kind, {**preset, **table}, f"{where}.{name}")
    if name in ("bleu", "chrf", "chrf++") or name.startswith("rouge"):
        made.score(_TRIED, Answered(sample_id="", text="a"))
    return made


_TRIED = Sample(id="", input="", targets=("a",))


def _built(kind: type[Any], table: dict[str, Any], where: str) -> Any:
    import dataclasses

    given = {one.name for one in dataclasses.fields(kind) if not one.name.startswith("_") and one.name != "embed"}
    for key in table:
        if key not in given:
            raise ConfigError(f'unknown key "{where}.{key}"', hint=nearest(key, given))
    return from_dict(kind, table, where=where)
