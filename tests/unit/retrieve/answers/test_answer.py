"""Answers: scripted models that read what they are given, a real one for the plumbing, and none at all."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError, RequestError
from bloomery.retrieve.answers.answer import Answer, AnswerConfig, Answering, read_quotes
from bloomery.retrieve.answers.gate import Gate
from bloomery.retrieve.answers.passages import PassageConfig
from bloomery.retrieve.answers.prompt import NOT_FOUND, NOT_SUPPORTED

QUESTION = "What was it that the furnace at Alderley burned: charcoal?"


def number_of(messages, words: str) -> int:
    """Of the passage that has these words."""
    parts = re.split(r"\[passage (\d+) [0-9a-f]{8}\]", messages[-1]["content"])
    return next(int(n) for n, text in zip(parts[1::2], parts[2::2], strict=True) if words in text)


def stands(answer: Answer, documents: dict[str, str]) -> bool:
    found = [one for statement in answer.statements for one in statement.citations]
    return all(documents[one.document_id][one.start : one.end] == one.quote for one in found) and bool(found)


def test_markers(retriever, scripted, documents):
    model = scripted(lambda m: f"It burned charcoal [{number_of(m, 'charcoal')}]. It was painted red [77].")
    answer = Answering(retriever, model).answer(QUESTION)
    assert answer.found and stands(answer, documents) and not answer.supported
    assert [one.supported for one in answer.statements] == [True, False]
    assert "[77]" not in answer.text and answer.usage.completion_tokens == 7
    told = json.loads(json.dumps(answer.to_dict()))
    assert told["statements"][0]["citations"][0]["document_id"] == "furnace" and told["energy_joules"]["central"] == 2.0


def test_strict_leaves_out_what_is_not_supported(retriever, scripted):
    model = scripted(lambda m: f"It burned charcoal [{number_of(m, 'charcoal')}]. It was painted red [1].")
    answer = Answering(retriever, model, AnswerConfig(strict=True)).answer(QUESTION)
    assert answer.supported and "red" not in answer.text and answer.text.startswith("It burned charcoal. [")
    liar = scripted(lambda m: "Whales sing loudly [1].")
    answer = Answering(retriever, liar, AnswerConfig(strict=True)).answer(QUESTION)
    assert (answer.found, answer.why, answer.text) == (False, "strict", NOT_SUPPORTED)
    assert answer.said == "Whales sing loudly [1]."


def test_quotes_are_held_to_a_schema(retriever, scripted, documents):
    def speak(messages) -> str:
        place = number_of(messages, "charcoal")
        words = [{"passage": place, "words": "burned CHARCOAL"}, {"passage": place, "words": "burned peat"}]
        return json.dumps({"quotes": words, "found": True, "answer": "It burned charcoal."})

    model = scripted(speak)
    answering = Answering(retriever, model, AnswerConfig(form="quotes"))
    answer = answering.answer(QUESTION)
    assert answer.supported and stands(answer, documents)
    assert [one.quote for one in answer.statements[0].citations] == ["burned charcoal"]
    assert model.asked[0][1].schema is not None
    assert read_quotes("plain") == ("plain", [], True) and read_quotes("[1]") == ("[1]", [], True)


def test_json_that_is_cut_is_no_answer(retriever, scripted):
    model = scripted(lambda m: '{"quotes": [{"passage": 1, "words": "It bur')
    answer = Answering(retriever, model, AnswerConfig(form="quotes")).answer(QUESTION)
    assert (answer.found, answer.why, answer.text) == (False, "form", NOT_SUPPORTED)


def test_spans(retriever, scripted, documents):
    model = scripted(lambda m: "The records say it burned charcoal, never coke.")
    answer = Answering(retriever, model, AnswerConfig(form="spans", least_support=0.3)).answer(QUESTION)
    assert answer.supported and stands(answer, documents)


def test_without_a_model(retriever, documents):
    answer = Answering(retriever).answer(QUESTION)
    assert answer.supported and stands(answer, documents) and answer.left_out == 0
    assert [one.text.split(".")[0] for one in answer.statements] == [
        "The furnace at Alderley was lit on 3 May 1874",
        "It burned charcoal, never coke",
    ]
    nothing = Answering(retriever).answer("Quarks and leptons?")
    assert (nothing.why, nothing.text, nothing.statements) == ("search", NOT_FOUND, ())
    few = Answering(retriever, config=AnswerConfig(passages=PassageConfig(max_passages=1))).answer(
        "the furnace, the bridge of iron and the bread"
    )
    assert len(few.passages) == 1 and few.left_out > 0 and few.to_dict()["left_out"] == few.left_out


@pytest.mark.parametrize("said", ["Not in the documents.", '{"quotes": [], "found": false, "answer": "Maybe 7"}'])
def test_a_model_can_say_that_it_is_not_there(said, retriever, scripted):
    form = "quotes" if said.startswith("{") else "markers"
    answer = Answering(retriever, scripted(lambda m: said), AnswerConfig(form=form)).answer(QUESTION)  # type: ignore[arg-type]
    assert (answer.found, answer.why, answer.text, answer.statements) == (False, "model", NOT_FOUND, ())


def test_a_gate_spares_the_model(retriever, scripted):
    def gate(threshold: float, name: str = "words") -> Gate:
        three = {"means": (0.0, 0.0, 0.0), "scales": (1.0, 1.0, 1.0), "weights": (0.0, 0.0, 4.0)}
        return Gate(retriever=name, k=10, offset=-2.0, threshold=threshold, **three)

    model = scripted(lambda m: "It burned charcoal [1].")
    assert Answering(retriever, model, gate=gate(0.5)).answer(QUESTION).found
    asked = len(model.asked)
    shut = Answering(retriever, model, gate=gate(0.99)).answer("furnace of whales and gulls in Peru")
    assert (shut.found, shut.why) == (False, "search") and len(model.asked) == asked and shut.probability is not None
    with pytest.raises(ConfigError, match="this gate is of others"):
        Answering(retriever, model, gate=gate(0.5, "others"))


def test_a_stream_says_the_same(retriever, scripted):
    said = "It burned charcoal [1]. ![x](https://evil.example/?q=1) Done [1]."
    pieces = list(Answering(retriever, scripted(lambda m: said)).stream(QUESTION))
    answer = pieces[-1].answer
    assert answer is not None and len(pieces) > 3 and "evil.example/?" not in answer.text.replace("[:]//evil", "")
    assert "".join(one.text for one in pieces).split() == answer.text.split() and "![" not in answer.text
    for config in (AnswerConfig(strict=True), AnswerConfig(form="quotes")):
        (only,) = Answering(retriever, scripted(lambda m: said), config).stream(QUESTION)
        assert only.answer is not None and only.text == only.answer.text


def test_the_real_engine_answers(retriever, tmp_path):
    """A tiny model with random weights: what it says is noise, but it comes through, within the schema."""
    from bloomery.engine import load_language_model
    from bloomery.engine.chat_model import EngineChat

    tiny = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
    model = load_language_model(tiny(tmp_path / "tiny", context=2048))
    answering = Answering(retriever, EngineChat(model), AnswerConfig(max_new_tokens=24))
    answer = answering.answer(QUESTION)
    assert answer.usage.prompt_tokens and answer.passages and answer.said
    assert answering.count("furnace") == len(model.tokenizer.encode("furnace"))
    assert all(not one.supported or one.citations for one in answer.statements)
    model.close()


def test_a_small_context_gets_fewer_passages(retriever, tmp_path):
    from bloomery.engine import load_language_model
    from bloomery.engine.chat_model import EngineChat

    tiny = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
    model = load_language_model(tiny(tmp_path / "tiny", context=1150))
    config = AnswerConfig(max_new_tokens=4000, form="spans")
    answer = Answering(retriever, EngineChat(model), config).answer(QUESTION + " And the bridge and its bread?")
    assert answer.passages and answer.left_out > 0 and answer.said
    assert answer.usage.prompt_tokens + answer.usage.completion_tokens <= 1151  # the last token is never read
    with pytest.raises(RequestError, match="no passage fits"):
        Answering(retriever, EngineChat(model), config).answer("iron " * 900)
    model.close()


def test_a_model_elsewhere_that_finds_it_too_long_gets_half(make_retriever, scripted):
    words = " ".join(f"word{n}" for n in range(40))
    retriever = make_retriever({f"d{n}": f"The furnace {n} says {words}." for n in range(6)})
    seen = []

    def speak(messages) -> str:
        seen.append(messages[-1]["content"].count("[end "))
        if len(seen) < 3:
            raise RequestError("this model's maximum context length is 100 tokens", code="context_length_exceeded")
        return "It burned charcoal [1]."

    answer = Answering(retriever, scripted(speak)).answer("What does the furnace say?")
    assert answer.said and seen[0] == 6 and seen[0] > seen[1] > seen[2] == len(answer.passages) >= 1
    assert answer.left_out == 6 - seen[2]

    def refuses(messages) -> str:
        raise RequestError("no such model", code="http_404")

    with pytest.raises(RequestError, match="no such model"):
        Answering(retriever, scripted(refuses)).answer("What does the furnace say?")


def test_mistakes(retriever):
    with pytest.raises(RequestError, match="empty"):
        Answering(retriever).answer("  ")
    with pytest.raises(ConfigError):
        AnswerConfig(k=0)
    assert Answering(retriever).name == "words, extract"


def test_sentences_say_that_they_may_not_answer(retriever):
    """A year of the question that no passage has is named; one that stands there, however it is written, is not."""
    answer = Answering(retriever).answer("How much charcoal did the furnace burn in 1850?")
    assert answer.found and answer.to_dict()["note"].endswith(
        "may not answer the question; no passage that was found has 1850"
    )
    answer = Answering(retriever).answer("Was the furnace at Alderley lit in 1,874?")
    assert answer.found and answer.note.endswith("may not answer the question")
