"""Splits: by hash stable and in proportion, by position equal to nanoGPT's slices."""

from __future__ import annotations

import lzma
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bloomery.corpus.document import Document, text_digest
from bloomery.corpus.split import hash_split, position_split, train_characters


def test_shares_are_near_the_fractions():
    splits = [hash_split(text_digest(f"text {n}"), validation_fraction=0.1, test_fraction=0.2) for n in range(20_000)]
    # Binomial: four standard deviations of 20,000 draws are 0.0085 at 0.1 and 0.0113 at 0.2.
    assert abs(splits.count("validation") / 20_000 - 0.1) < 0.0085
    assert abs(splits.count("test") / 20_000 - 0.2) < 0.0113


def test_zero_fractions_leave_everything_to_training():
    for n in range(100):
        assert hash_split(text_digest(str(n)), validation_fraction=0.0, test_fraction=0.0) == "train"


def test_the_first_sixty_four_bits_decide():
    assert hash_split(b"\x00" * 32, validation_fraction=0.05, test_fraction=0.05) == "test"
    assert hash_split(b"\xff" * 32, validation_fraction=0.05, test_fraction=0.05) == "train"
    eighth = (2**64 // 8).to_bytes(8, "big")
    assert hash_split(eighth, validation_fraction=0.1, test_fraction=0.1) == "validation"


@given(st.lists(st.text(max_size=20), max_size=10), st.integers(0, 120))
def test_a_position_cuts_the_concatenated_text(texts: list[str], length: int):
    parts = {"train": "", "validation": ""}
    for split, document in position_split([Document.of(text, "s") for text in texts], length):
        parts[split] += document.text
    whole = "".join(texts)
    assert parts == {"train": whole[:length], "validation": whole[length:]}


def test_tiny_shakespeare_is_cut_where_nanogpt_cuts_it(shared_data: Path):
    data = lzma.decompress((shared_data / "text" / "tinyshakespeare.txt.xz").read_bytes()).decode()
    # data/shakespeare_char/prepare.py of nanoGPT, whose README states both lengths.
    n = len(data)
    train, validation = data[: int(n * 0.9)], data[int(n * 0.9) :]
    assert (len(train), len(validation)) == (1_003_854, 111_540)
    parts = dict(position_split([Document.of(data, "s")], train_characters(n, 0.05 + 0.05)))
    assert parts["train"].text == train
    assert parts["validation"].text == validation
