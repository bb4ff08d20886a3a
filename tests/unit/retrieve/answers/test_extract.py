"""Extracts: the passages' own sentences, those that are about the question."""

from __future__ import annotations

from bloomery.retrieve.answers.extract import extract
from bloomery.retrieve.answers.passages import assemble
from bloomery.retrieve.chunk import Chunk, Hit


def test_the_sentence_about_the_question_comes_first(retriever, documents):
    for question, words in [
        ("How many kilograms did the bloom weigh?", "41 kilograms"),
        ("When was the furnace at Alderley lit?", "3 May 1874"),
        ("How many ribs of cast iron does the bridge have?", "five ribs"),
        ("How long does rye bread keep?", "a week"),
    ]:
        found = extract(question, assemble(retriever.search(question, k=10)))
        first = found[0].citation
        assert words in first.quote and documents[first.document_id][first.start : first.end] == first.quote
        assert first.by == "extract" and 0 < found[-1].worth <= found[0].worth <= 1


def test_nothing_about_the_question(retriever):
    passages = assemble(retriever.search("furnace", k=3))
    assert extract("Quarks?", passages) == [] and extract("furnace", []) == []
    assert len(extract("furnace bloom iron smiths", passages, most=1)) == 1


def test_a_word_in_common_is_no_answer(retriever):
    """One term of ten, and that the only one that stands anywhere."""
    question = "Which quarks decay into the furnace of gluons at Geneva, said Bohr in his lectures?"
    assert extract(question, assemble(retriever.search(question, k=10))) == []


def test_a_line_that_repeats_the_question_is_no_answer():
    """As in the manual of this very command, and above the answer in a list of questions."""
    text = (
        'bloomery ask docs "When was the furnace lit?" --form extract\n\nWhen was the furnace lit?\n'
        "The blast furnace was lit in May 1874."
    )
    chunk = Chunk(id="a-0", document_id="a", text=text, start=0, end=len(text), heading="")
    passages = assemble([Hit(chunk=chunk, score=1.0)])
    assert [one.citation.quote for one in extract("When was the furnace lit?", passages)] == [text.split("\n")[-1]]
    words = extract("the blast furnace", passages)  # a sentence may well have these
    assert words[0].citation.quote == text.split("\n")[-1]
    only = Chunk(id="b-0", document_id="b", text=text.split("\n")[0], start=0, end=60, heading="")
    assert extract("When was the furnace lit?", assemble([Hit(chunk=only, score=1.0)])) == []
