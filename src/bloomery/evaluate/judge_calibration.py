"""Judge calibration: what a judge's scores are worth, held against people's labels of some of the same answers.

Beside every judged score stand Cohen's kappa with its interval, and what a judge would reach that always says the most
common thing: nine answers of ten may be right, and a judge that says "right" to all of them agrees on nine of ten. A
judge is "calibrated" once the lower end of kappa's interval is at the threshold, .4 if nothing is said (the lower bound
of what Landis and Koch, Biometrics 33, 1977, call moderate); else, and without labels, "uncalibrated". With labels the
mean is prediction-powered: few of people's, many of the judge's. This module does not ask judges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import DataError
from bloomery.evaluate.sample import Score
from bloomery.evaluate.statistics import (
    Interval,
    Kappa,
    PredictionPowered,
    estimate,
    kappa,
    prediction_powered_mean,
    rate,
)

THRESHOLD = 0.4
LEAST_LABELS = 3


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A judge against people. `constant_same`: the share on which a judge would agree that always says `constant`."""

    kappa: Kappa | None
    same: Interval | None
    constant: str
    constant_same: float | None
    labels: int
    threshold: float
    calibrated: bool

    @property
    def word(self) -> str:
        return "calibrated" if self.calibrated else "uncalibrated"

    def text(self) -> str:
        """One line for people."""
        if self.kappa is None or self.same is None:
            return "uncalibrated: nobody has labelled any of these answers"
        beside = f"agrees on {self.same.text(2)}, always {self.constant!r:.40} on {self.constant_same:.2f}"
        return f"{self.word}: kappa {self.kappa.text()} with {self.labels:,} labels; {beside}"

    def to_dict(self) -> dict[str, Any]:
        parts = {"kappa": self.kappa and self.kappa.to_dict(), "same": self.same and self.same.to_dict()}
        return {**vars(self), **parts, "word": self.word}


@dataclass(frozen=True, kw_only=True)
class JudgedScore:
    """`judged` is the mean of what the judge says, an answer not in form counted as 0; `lowest` and `highest` are what
    the mean were if all of those were worth 0, or 1. `powered` is the mean that people would give; None without
    labels."""

    scorer: str
    judged: Interval
    in_form: Interval
    lowest: float
    highest: float
    calibration: Calibration
    powered: PredictionPowered | None

    @property
    def value(self) -> Interval:
        """What to report: people's mean where it is known, else the judge's."""
        return self.powered.estimate if self.powered is not None else self.judged

    def text(self) -> str:
        """One line for people."""
        form = "" if self.in_form.value == 1 else f"; {1 - self.in_form.value:.1%} of the judge's answers had no form"
        return f"{self.scorer}: {self.value.text()}, {self.calibration.text()}{form}"

    def to_dict(self) -> dict[str, Any]:
        return {
            **vars(self),
            "judged": self.judged.to_dict(),
            "in_form": self.in_form.to_dict(),
            "calibration": self.calibration.to_dict(),
            "powered": self.powered and self.powered.to_dict(),
            "value": self.value.to_dict(),
        }


def calibrate(
    said: Sequence[str],
    labels: Sequence[str],
    scale: Sequence[str] = (),
    *,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> Calibration:
    """Words of a judge and of people about the same answers, in the same order. A `scale` of three or more, from worst
    to best, weighs disagreements by their distance, squared; what the judge did not say in form ("") disagrees with
    all.

    DataError for labels that are not on the scale.
    """
    if len(said) != len(labels):
        raise DataError(f"{len(said):,} judgements are no pairs with {len(labels):,} labels")
    if scale and (unknown := set(labels) - set(scale)):
        raise DataError(f"the label {sorted(unknown)[0]!r:.40} is not on the scale", hint=", ".join(scale))
    if not labels:
        return Calibration(
            kappa=None, same=None, constant="", constant_same=None, labels=0, threshold=threshold, calibrated=False
        )
    weighted = len(scale) > 2 and "" not in said
    found = kappa(said, labels, weights="quadratic" if weighted else "none", order=scale if weighted else (), seed=seed)
    constant, number = Counter(labels).most_common(1)[0]
    return Calibration(
        kappa=found,
        same=rate([float(a == b) for a, b in zip(said, labels, strict=True)]),
        constant=constant,
        constant_same=number / len(labels),
        labels=len(labels),
        threshold=threshold,
        calibrated=found.low is not None and found.low >= threshold,
    )


def judged_score(
    scores: Sequence[Score],
    labels: Mapping[str, str],
    scale: Sequence[str],
    *,
    clusters: Mapping[str, str] | None = None,
    threshold: float = THRESHOLD,
) -> JudgedScore:
    """Of one judge's scores and people's labels, words of the scale by sample id. Labelled answers should have been
    drawn at random: labels of what looked odd say nothing of the rest."""
    if len(scores) < 2:
        raise DataError("two judged answers or more are needed")
    worth = {word: place / (len(scale) - 1) for place, word in enumerate(scale)}
    known = [one for one in scores if one.sample_id in labels]
    rest = [one for one in scores if one.sample_id not in labels]
    words = [labels[one.sample_id] for one in known]
    calibration = calibrate([_word(one, scale) for one in known], words, scale, threshold=threshold)
    powered = None
    if len(known) >= LEAST_LABELS and len(rest) >= 2:
        truth = [worth[word] for word in words]
        powered = prediction_powered_mean(truth, [one.value for one in known], [one.value for one in rest])
    formless = [not one.details.get("in_form", True) for one in scores]
    values = [one.value for one in scores]
    groups = None if clusters is None else [clusters.get(one.sample_id) or one.sample_id for one in scores]
    return JudgedScore(
        scorer=scores[0].scorer,
        judged=estimate(values, clusters=groups),
        in_form=rate([float(not one) for one in formless]),
        lowest=sum(values) / len(values),
        highest=(sum(values) + sum(formless)) / len(values),
        calibration=calibration,
        powered=powered,
    )


def _word(score: Score, scale: Sequence[str]) -> str:
    """What the judge said, "" for what was not in form; what it was not asked about (an empty answer) is the worst."""
    if not score.details.get("in_form", True):
        return ""
    return score.answer if score.details.get("asked", True) else scale[0]
