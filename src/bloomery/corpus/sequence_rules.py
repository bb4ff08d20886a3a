"""Rules for nucleotide and protein sequences: letters of the alphabet, unknown residues, low complexity.

The alphabet is IUPAC's; complexity is DUST's score (Morgulis et al. 2006, doi:10.1089/cmb.2006.13.1028), of which
repeats of one to three letters have a high one. The thresholds are our own; a source's may be set instead.
"""

from __future__ import annotations

import numpy as np

from bloomery.corpus.measured_document import MeasuredDocument
from bloomery.corpus.rule import Rule

_NUCLEOTIDES = frozenset("ACGTUNRYSWKMBDHV")
_RESIDUES = frozenset("ABCDEFGHIKLMNOPQRSTUVWXYZ")  # with the ambiguous B, Z and X, and with U and O
_WINDOW = 64


def _sequence(document: MeasuredDocument) -> str:
    """The letters of a sequence: FASTA's header lines, white space, gaps and stops left out, in upper case."""
    lines = (line for line in document.now.any_lines if not line.startswith((">", ";")))
    return "".join("".join(lines).split()).translate({ord("-"): None, ord("*"): None, ord("."): None}).upper()


def _is_nucleotide(sequence: str) -> bool:
    """Nine in ten letters are of A, C, G, T, U, N: hardly any protein is so poor."""
    return sum(map(sequence.count, "ACGTUN")) >= 0.9 * len(sequence)


def residues(document: MeasuredDocument) -> float:
    """Letters of the sequence: at least 20 (shorter ones have no k-mers to learn from; our own)."""
    return float(len(_sequence(document)))


def foreign(document: MeasuredDocument) -> float | None:
    """Share of characters that are in neither IUPAC alphabet: none (IUPAC-IUB 1984 and 1985)."""
    sequence = _sequence(document)
    if not sequence:
        return None
    alphabet = _NUCLEOTIDES if _is_nucleotide(sequence) else _RESIDUES
    return sum(letter not in alphabet for letter in sequence) / len(sequence)


def unknown(document: MeasuredDocument) -> float | None:
    """Share of residues that are unknown, N of nucleotides and X of proteins: at most 0.05 (our own)."""
    sequence = _sequence(document)
    return sequence.count("N" if _is_nucleotide(sequence) else "X") / len(sequence) if sequence else None


def low_complexity(document: MeasuredDocument) -> float | None:
    """Share of windows of 64 letters with a DUST score above 2, which dustmasker masks: at most 0.5 (our own)."""
    codes = np.frombuffer(_sequence(document).encode("ascii", "replace"), np.uint8).astype(np.int64)
    triplets = codes[:-2] * 65536 + codes[1:-1] * 256 + codes[2:] if len(codes) > 2 else codes[:0]
    if not len(triplets):
        return None
    size = _WINDOW - 2
    windows = [triplets[start : start + size] for start in range(0, max(1, len(triplets) - size + 1), size)]
    return sum(_dust(window) > 2.0 for window in windows) / len(windows)


def _dust(triplets: np.ndarray) -> float:
    """sum of c(c-1)/2 over the counts c of triplets, divided by one less than their number."""
    counts = np.unique(triplets, return_counts=True)[1]
    return float((counts * (counts - 1)).sum() / 2 / max(1, len(triplets) - 1))


RULES: tuple[Rule, ...] = (
    Rule(name="bio_residues", measure=residues, keep=">=", threshold=20),
    Rule(name="bio_foreign", measure=foreign, keep="<=", threshold=0),
    Rule(name="bio_unknown", measure=unknown, keep="<=", threshold=0.05),
    Rule(name="bio_low_complexity", measure=low_complexity, keep="<=", threshold=0.5),
)
