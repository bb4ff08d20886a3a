"""Terms: FTS5's words and Porter's stems, held to NLTK's stemmer in its original mode."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.retrieve.store.terms import Terms

TEXT = "Relational databases were normalised; connections, connected, connecting: the hopping ponies caresses troubled."


def test_stems_are_porters():
    porter = pytest.importorskip("nltk.stem.porter")
    stemmer = porter.PorterStemmer(mode="ORIGINAL_ALGORITHM")
    words = [word.strip(".,;:'") for word in TEXT.replace("'", " ").lower().split()]
    terms, _ = Terms().count([TEXT])
    assert set(terms) == {stemmer.stem(word) for word in words}


def test_counts_and_lengths():
    postings, lengths = Terms().count(["iron iron ore", "", "ore \0 Iron"])
    assert lengths.tolist() == [3, 0, 2]
    rows, times = postings["iron"]
    assert rows.tolist() == [0, 2] and times.tolist() == [2, 1]
    assert rows.dtype == np.int32 and times.dtype == np.uint16


def test_function_words_are_left_out_of_queries_unless_there_are_no_others():
    terms = Terms()
    assert terms.of_query("the smelting of iron, in the") == {"smelt": 1, "iron": 1}
    assert set(terms.of_query("to be or not to be")) == {"to", "be", "or", "not"}
    assert terms.of_query("?! ...") == {}
    assert terms.of_query("iron and iron") == {"iron": 2}


def test_quotes_and_operators_are_text():
    assert set(Terms().of_query('NEAR("iron" slag*) -x')) == {"near", "iron", "slag", "x"}


def test_scripts_without_spaces_by_trigrams():
    postings, _ = Terms("trigram").count(["たたら製鉄の炉"])
    assert "製鉄の" in postings


def test_nothing_is_left_of_earlier_texts():
    terms = Terms()
    terms.count(["iron"])
    assert set(terms.count(["slag"])[0]) == {"slag"}


def test_lone_surrogates_and_very_long_words():
    postings, lengths = Terms("unicode61").count(["x\ud800y", "z" * 5000])
    assert lengths.tolist()[1] == 1 and "z" * 64 in postings
