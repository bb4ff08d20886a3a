"""Rule: what is measured of a document or of its lines, and the threshold that it must keep to.

A score is a number; a verdict compares it with the threshold. So thresholds can be moved without measuring again. What
cannot be measured (a share of no words) has no score, and no rule drops it for that. This module knows no rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, nearest
from bloomery.corpus.measured_document import Lines, MeasuredDocument

OFF = "off"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`measure` gives a page's score, or None; of a rule that drops or reads lines, an array of the lines' scores.

    What is kept has a score `keep` the threshold: ">=" or "<=". The score of a rule that drops documents and `reads`
    "lines" is the sum over the lines that earlier rules left; one that reads "text" sees the text that they make; one
    that reads "given" what is known of the document from elsewhere.
    """

    name: str
    measure: Callable[[MeasuredDocument], float | None] | Callable[[Lines], NDArray[Any] | None]
    keep: Literal[">=", "<="]
    threshold: float
    drops: Literal["document", "line"] = "document"
    reads: Literal["text", "lines", "given"] = "text"

    @property
    def source(self) -> str:
        """What is measured, and the paper or code that has the rule: the measure's docstring on one line."""
        return " ".join((self.measure.__doc__ or "").split())

    @overload
    def keeps(self, score: float | None) -> bool: ...
    @overload
    def keeps(self, score: NDArray[Any]) -> NDArray[np.bool_]: ...
    def keeps(self, score: Any) -> Any:
        """The verdict on a score, or on an array of them; no score (None, NaN) is kept."""
        if score is None:
            return True
        dropped = score < self.threshold if self.keep == ">=" else score > self.threshold
        return ~dropped if isinstance(dropped, np.ndarray) else not dropped

    def at(self, threshold: float) -> Rule:
        """The same rule with another threshold."""
        return replace(self, threshold=float(threshold))

    def says(self) -> str:
        """The rule as a comparison: `gopher_min_words >= 50`."""
        return f"{self.name} {self.keep} {self.threshold:g}"


def with_thresholds(rules: Sequence[Rule], moved: Mapping[str, Any], *, profile: str) -> tuple[Rule, ...]:
    """The rules with some thresholds moved, and those set to "off" left out.

    ConfigError for a rule that the profile does not have, and for a threshold that is no number.
    """
    names = [rule.name for rule in rules]
    for name, value in moved.items():
        if name not in names:
            raise ConfigError(f'the profile "{profile}" has no rule "{name}"', hint=nearest(name, names))
        if value != OFF and (isinstance(value, bool) or not isinstance(value, (int, float)) or value != value):
            raise ConfigError(f'"rules.{name}" should be a number or "{OFF}", not {value!r}')
    return tuple(
        rule.at(moved[rule.name]) if rule.name in moved else rule for rule in rules if moved.get(rule.name) != OFF
    )
