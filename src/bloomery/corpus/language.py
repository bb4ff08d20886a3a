"""Language: which language a text is in and how probable that is, by py3langid.

Its probabilities are its own: a threshold that was set on langdetect, cld3 or fastText means something else here. The
input is truncated, for the time grows with it and the answer hardly changes. This module does not know documents.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from bloomery.core.errors import ConfigError, MissingExtraError, nearest
from bloomery.corpus.unspaced import UNSPACED_CHARACTER

CHARACTERS = 2000
_PARAGRAPH_CHARACTERS = 400
_LEAST_PARAGRAPH_CHARACTERS = 20
_BLANK_LINES = re.compile(r"\n(?:[^\S\n]*\n)+")
_UNSPACED_COUNTS = 3  # a character of a script without spaces says as much as three letters, or more


class LanguageIdentifier:
    """Loads its model once. MissingExtraError without py3langid."""

    def __init__(self) -> None:
        try:
            from py3langid.langid import MODEL_FILE
            from py3langid.langid import LanguageIdentifier as Identifier
        except ImportError as error:
            raise MissingExtraError("py3langid", "curate", "language identification") from error
        self._identifier: Any = Identifier.from_model_file(MODEL_FILE, norm_probs=True)

    @property
    def languages(self) -> list[str]:
        """ISO 639 codes of the languages known."""
        return sorted(self._identifier.labels)

    def check(self, languages: Collection[str]) -> None:
        """ConfigError for a code that is not known."""
        for language in languages:
            if language not in self.languages:
                raise ConfigError(
                    f'"{language}" is not a language py3langid knows', hint=nearest(language, self.languages)
                )

    def probabilities(self, text: str) -> dict[str, float]:
        """Language to probability, the most probable first; they sum to 1."""
        return dict(self._identifier.rank(text[:CHARACTERS]))

    def identify(self, text: str) -> tuple[str, float]:
        """(language, probability) of the first CHARACTERS characters."""
        language, probability = self._identifier.classify(text[:CHARACTERS])
        return str(language), float(probability)

    def of_paragraphs(self, text: str) -> list[list[Any]]:
        """[language, probability, characters] of each paragraph (what blank lines part, else lines) that is long enough
        to tell: 20 characters, 7 where a script has no spaces. Neighbours in one language are one entry, with the mean
        of their probabilities by characters."""
        paragraphs = _BLANK_LINES.split(text)
        found: list[list[Any]] = []
        for paragraph in map(str.strip, paragraphs if len(paragraphs) > 1 else text.split("\n")):
            if not _is_long_enough(paragraph):
                continue
            language, probability = self.identify(paragraph[:_PARAGRAPH_CHARACTERS])
            size = len(paragraph)
            if found and found[-1][0] == language:
                last = found[-1]
                last[1] = round((last[1] * last[2] + probability * size) / (last[2] + size), 4)
                last[2] += size
            else:
                found.append([language, round(probability, 4), size])
        return found


def _is_long_enough(paragraph: str) -> bool:
    least = _LEAST_PARAGRAPH_CHARACTERS
    if len(paragraph) >= least or len(paragraph) * _UNSPACED_COUNTS < least:
        return len(paragraph) >= least
    return len(paragraph) + (_UNSPACED_COUNTS - 1) * len(UNSPACED_CHARACTER.findall(paragraph)) >= least
