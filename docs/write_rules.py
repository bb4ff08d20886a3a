"""Writes docs/rules.md: every rule of every profile, and how its verdicts compare with datatrove's on real pages.

python docs/write_rules.py            # needs datatrove, spaCy and the test data
python docs/write_rules.py --tables   # the tables of rules alone; what was measured stays
python docs/write_rules.py --check    # exit code 1 if the tables of rules are out of date; needs neither
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "docs" / "rules.md"
MEASURED = "## Verdicts beside datatrove's\n"

# What is known to differ: profile, what, why.
DIFFERENCES = (
    ("c4-tfds, c4-paper", "datatrove keeps lines that end in '", "its list of end marks has it; C4's code has not"),
    (
        "c4-tfds, c4-paper",
        "a line's words are counted without citation marks",
        "as in C4's code; datatrove counts them",
    ),
    ("c4-*, fineweb", "sentences are those of spaCy's sentencizer", "as in datatrove; C4's code uses NLTK's punkt"),
    ("all with language", "probabilities are py3langid's", "C4 used langdetect, mC4 cld3, FineWeb fastText"),
    (
        "c4-*, mc4",
        "bad words stand between any letters, or at a line's end",
        "C4's code knows a to z, and wants a character on both sides; datatrove takes digits and _ for letters",
    ),
    ("c4-*, mc4", "no URL or global line deduplication", "deduplication is a step of its own, with reasons of its own"),
    (
        "gopher, fineweb",
        "words by our rules, not by spaCy itself",
        "no spaCy at run time; the table has how many differ",
    ),
    ("gopher", "mean word length, copies beyond the first", "datatrove's reading; the paper leaves both open"),
    ("all", "a share of nothing has no score, and drops nothing", "datatrove divides by zero there"),
    ("code, bio, webtext", "no counterpart in datatrove", "sources in the table"),
)


def rules() -> str:
    """The tables of rules, and of known differences."""
    from bloomery.corpus.profiles import PROFILES

    parts = [
        "# Rules\n\nWritten by `python docs/write_rules.py`. `bloomery curate SOURCES --profile NAME` applies a",
        " profile's rules in this order;\n`--set rules.RULE=VALUE` moves a threshold, `off` leaves a rule out.\n",
    ]
    for name, profile in PROFILES.items():
        parts.append(f"\n## {name}\n\n| rule | keeps | drops | measures |\n|---|---|---|---|\n")
        for rule in profile:
            measures = rule.source.replace("|", "\\|")
            parts.append(f"| `{rule.name}` | {rule.keep} {rule.threshold:g} | {rule.drops} | {measures} |\n")
    parts.append("\n## Known differences\n\n| profile | what | why |\n|---|---|---|\n")
    parts += [f"| {where} | {what} | {why} |\n" for where, what, why in DIFFERENCES]
    return "".join(parts) + "\n"


def measured() -> str:
    """Documents on which verdict or text differ, as they are and with datatrove's end marks as in C4's code."""
    sys.path.insert(0, str(PROJECT / "benchmarks"))
    import spacy
    from datatrove.pipeline.filters import c4_filters

    import peer_datatrove as peer
    from bloomery.corpus.judge import Judge
    from bloomery.corpus.words import split_chunk

    said = [MEASURED, f"\ndatatrove {version('datatrove')}, spaCy {version('spacy')}.\n\n"]
    said.append(
        "| profile | sample | documents | dropped | other verdict | other reason | other text | "
        "the same without ' as an end mark |\n|---|---|---|---|---|---|---|---|\n"
    )
    marks = c4_filters.END_PUNCTUATION
    for profile in peer.PROFILES:
        for sample in peer.SAMPLES:
            texts = peer.texts(sample)
            judge = Judge(peer.rules_of(profile))
            ours = [judge.judge(text) for text in texts]
            mine = [(v.rule.name if v.rule else "", "" if v.rule else v.text) for v in ours]
            counts = []
            for these in (marks, (".", "?", "!", '"')) if profile.startswith("c4") else (marks,):
                c4_filters.END_PUNCTUATION = these
                theirs = list(map(peer.judge(profile), texts))
                pairs = list(zip(mine, theirs, strict=True))
                counts.append(
                    [
                        sum(bool(a[0]) != bool(b[0]) for a, b in pairs),
                        sum(a[0] != b[0] for a, b in pairs if a[0] and b[0]),
                        sum(a[1] != b[1] for a, b in pairs if not a[0] and not b[0]),
                    ]
                )
            c4_filters.END_PUNCTUATION = marks
            dropped = sum(bool(rule) for rule, _ in mine)
            row = [profile, sample, len(texts), dropped, *counts[0], " / ".join(map(str, counts[-1]))]
            said.append("| " + " | ".join(map(str, row)) + " |\n")
    words = spacy.blank("en").tokenizer
    chunks = [chunk for sample in peer.SAMPLES for text in peer.texts(sample) for chunk in text.split()]
    cut = {chunk: split_chunk(chunk) == tuple(word.text for word in words(chunk)) for chunk in set(chunks)}
    other = sum(not cut[chunk] for chunk in chunks)
    said.append(f"\nOf {len(chunks):,} chunks between white space, {other:,} are cut into other words than spaCy's.\n")
    return "".join(said)


def main() -> int:
    if "--check" in sys.argv[1:]:
        return int(not PAGE.read_text(encoding="utf-8").startswith(rules()))
    if "--tables" in sys.argv[1:]:
        kept = PAGE.read_text(encoding="utf-8").partition(MEASURED) if PAGE.exists() else ("", "", "")
        PAGE.write_text(rules() + kept[1] + kept[2], encoding="utf-8")
        return 0
    PAGE.write_text(rules() + measured(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
