"""datatrove's filters for the profiles that have a counterpart there, and the documents both are asked about.

Nothing is downloaded: datatrove's English words come from spaCy's blank pipeline. Its fastText language filter and its
lists of bad words would be, so neither side applies those rules.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bloomery.corpus.rule import Rule

DATA = Path(os.environ.get("BLOOMERY_DATA") or Path(__file__).parents[2] / "shared" / "data")
SAMPLES = {"C4": "text/c4_demo.jsonl.xz", "web": "web/dclm_quality_majority.jsonl.xz"}

# datatrove's word for each reason, as the rule that has it here.
REASONS = {
    "dup_para_frac": "gopher_repeated_paragraphs",
    "dup_para_char_frac": "gopher_repeated_paragraph_characters",
    "dup_line_frac": "gopher_repeated_lines",
    "dup_line_char_frac": "gopher_repeated_line_characters",
    **{f"top_{n}_gram": f"gopher_top_{n}_words" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"gopher_repeated_{n}_words" for n in range(5, 11)},
    "gopher_short_doc": "gopher_min_words",
    "gopher_long_doc": "gopher_max_words",
    "gopher_below_avg_threshold": "gopher_min_word_characters",
    "gopher_above_avg_threshold": "gopher_max_word_characters",
    "gopher_too_many_hashes": "gopher_hashes",
    "gopher_too_many_ellipsis": "gopher_ellipses",
    "gopher_too_many_bullets": "gopher_bullet_lines",
    "gopher_too_many_end_ellipsis": "gopher_ellipsis_lines",
    "gopher_below_alpha_threshold": "gopher_words_with_letters",
    "gopher_enough_stop_words": "gopher_common_words",
    "lorem_ipsum": "c4_lorem_ipsum",
    "curly_bracket": "c4_braces",
    "too_few_sentences": "c4_sentences",
    "empty": "fineweb_punctuated_lines",
    "line_punct_ratio": "fineweb_punctuated_lines",
    "short_line_ratio": "fineweb_short_lines",
    "char_dup_ratio": "fineweb_repeated_line_characters",
    "list_ratio": "fineweb_line_ends",
    "< 3 paragraphs": "mc4_third_longest_line",
}


def texts(sample: str) -> list[str]:
    """The texts of a sample by its name in SAMPLES."""
    with lzma.open(DATA / SAMPLES[sample], "rt", encoding="utf-8") as stream:
        return [json.loads(line)["text"] for line in stream]


def filters(profile: str) -> list[Any]:
    """datatrove's filters for a profile, in FineWeb's order."""
    from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter
    from datatrove.pipeline.filters.c4_filters import C4ParagraphFilter
    from datatrove.pipeline.filters.gopher_repetition_filter import GopherRepetitionFilter

    return {
        "gopher": lambda: [GopherRepetitionFilter(), GopherQualityFilter()],
        "c4-tfds": lambda: [C4QualityFilter(min_num_sentences=3, min_words_per_line=5)],
        "c4-paper": lambda: [C4QualityFilter()],
        "mc4": lambda: [C4ParagraphFilter()],
        "fineweb": lambda: [
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(),
        ],
    }[profile]()


PROFILES = ("gopher", "c4-tfds", "c4-paper", "mc4", "fineweb")


def rules_of(profile: str) -> list[Rule]:
    """The profile's rules that both sides can apply."""
    from bloomery.corpus.profiles import PROFILES as ours

    return [rule for rule in ours[profile] if rule.reads != "given"]


def judge(profile: str) -> Callable[[str], tuple[str, str]]:
    """(rule that drops it or "", text that is left) by datatrove."""
    from datatrove.data import Document

    chain = filters(profile)

    def judged(text: str) -> tuple[str, str]:
        document = Document(text=text, id="")
        for one in chain:
            answer = one.filter(document)
            kept, reason = answer if isinstance(answer, tuple) else (answer, "")
            if not kept:
                return REASONS[reason], ""
        return "", document.text

    return judged
