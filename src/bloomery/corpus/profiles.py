"""Profiles: rules by name, in the order in which they are applied. To add one: a line in PROFILES."""

from __future__ import annotations

from bloomery.core.errors import ConfigError, nearest
from bloomery.corpus import c4, fineweb, gopher, sequence_rules, source_code
from bloomery.corpus.measured_document import MeasuredDocument
from bloomery.corpus.rule import Rule


def karma(document: MeasuredDocument) -> float | None:
    """The highest score of a link to the page, 0 without any: at least 3 (WebText, GPT-2's paper, section 2.1)."""
    return document.given.get("karma")


def classifier(document: MeasuredDocument) -> float | None:
    """Probability that the page is good, by the classifier given: at least 0.5 (our own)."""
    return document.given.get("classifier")


def given_score(document: MeasuredDocument) -> float | None:
    """The document's score in the file of scores given: at least 0.5 (our own)."""
    return document.given.get("score")


CLASSIFIER = Rule(name="classifier", measure=classifier, keep=">=", threshold=0.5, reads="given")
GIVEN_SCORE = Rule(name="score", measure=given_score, keep=">=", threshold=0.5, reads="given")

PROFILES: dict[str, tuple[Rule, ...]] = {
    "c4-tfds": c4.TFDS,
    "c4-paper": c4.PAPER,
    "gopher": (*gopher.REPETITION, *gopher.QUALITY),
    "fineweb": (
        c4.LANGUAGE_OF_FINEWEB,
        *gopher.REPETITION,
        *gopher.QUALITY,
        *c4.IN_FINEWEB,
        *fineweb.RULES,
    ),
    "mc4": c4.MC4,
    "code": source_code.RULES,
    "bio": sequence_rules.RULES,
    "webtext": (Rule(name="webtext_karma", measure=karma, keep=">=", threshold=3, reads="given"),),
}


def rules_of(profile: str) -> tuple[Rule, ...]:
    """The rules of a profile; ConfigError for an unknown one."""
    if profile not in PROFILES:
        raise ConfigError(f'there is no profile "{profile}"', hint=nearest(profile, PROFILES))
    return PROFILES[profile]
