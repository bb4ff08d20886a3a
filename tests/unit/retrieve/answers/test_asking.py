"""ask: an index on disk, in one call, with and without a model and a reranker."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import bloomery as bl
from bloomery.core.errors import ArtifactError, ConfigError
from bloomery.corpus.document import Document
from bloomery.engine import load_language_model
from bloomery.retrieve.answers.answer import AnswerConfig
from bloomery.retrieve.answers.asking import ask, opened_answering


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "a.txt").write_text("The furnace at Alderley was lit on 3 May 1874. It burned charcoal, never coke.\n")
    (folder / "b.txt").write_text("The bridge has five ribs of cast iron.\n")
    bl.index([str(folder / "a.txt"), str(folder / "b.txt")], into=str(folder / "idx"), workspace=folder / "home")
    return folder


def test_an_index_answers(home):
    answer = bl.ask(home / "idx", "How many ribs of iron has the bridge?", workspace=home / "home")
    (one,) = answer.statements[0].citations
    assert answer.supported and one.quote == "The bridge has five ribs of cast iron."
    assert one.document_id.endswith("b.txt") and (one.start, one.end) == (0, 38)


def test_models_by_folder_or_loaded(home, scripted):
    tiny = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
    folder = tiny(home / "tiny", context=2048)
    config = AnswerConfig(max_new_tokens=4)
    answer = ask(home / "idx", "What burned in the furnace?", model=folder, config=config, workspace=home / "home")
    assert answer.said and answer.usage.completion_tokens
    loaded = load_language_model(folder)
    again = ask(home / "idx", "What burned in the furnace?", model=loaded, config=config, workspace=home / "home")
    assert again.said == answer.said
    loaded.close()
    judge = scripted(lambda m: "yes" if "between [passage" in m[0]["content"] else "It has five ribs of cast iron [1].")
    found = ask(home / "idx", "How many ribs?", model=judge, rerank="model", workspace=home / "home")
    assert found.supported and found.passages[0].score == 1.0


def test_by_the_likelihood_of_the_question(home, scripted):
    """Chunks come in the order of what transformers-tested `QueryLikelihood` says of each."""
    from bloomery.engine.chat_model import EngineChat
    from bloomery.retrieve.rerank import QueryLikelihood

    tiny = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]
    model = load_language_model(tiny(home / "tiny-again", context=2048))
    question, config = "Was the bridge or the furnace lit?", AnswerConfig(form="extract")
    chat = EngineChat(model)
    with opened_answering(home / "idx", chat, config, rerank="likelihood", workspace=home / "home") as answering:
        hits = answering.retriever.search(question, k=5)
    texts = {hit.chunk.id: hit.chunk.text for hit in hits}
    scores = dict(zip(texts, QueryLikelihood(model).scores(question, list(texts.values())), strict=True))
    assert len(hits) == 2 and [hit.chunk.id for hit in hits] == sorted(scores, key=lambda one: -scores[one])
    model.close()
    for given, said in ((scripted(lambda m: ""), "an endpoint does not say"), (None, "no model to rerank")):
        with (
            pytest.raises(ConfigError, match=said),
            opened_answering(home / "idx", given, rerank="likelihood", workspace=home / "home"),
        ):
            pass


def test_a_gate_is_there_unless_it_is_refused(home, retriever, scripted):
    """Also where no model is asked; and not in an index of two chunks, of which nobody knows what words are rare."""
    texts = [
        f"The smith of village {n % 17} calls smith{n} who forges hammer{n % 50} and plough{n}." for n in range(250)
    ]
    bl.index([Document.of(one, f"{n}.txt") for n, one in enumerate(texts)], into=home / "many", workspace=home / "home")
    strange = "Which quarks decay into gluons near the village, said Bohr?"
    says = scripted(lambda m: "It does [1].")
    for model in (None, says):
        answer = bl.ask(home / "many", strange, model=model, workspace=home / "home")
        assert (answer.found, answer.why) == (False, "search") and answer.probability is not None
        assert bl.ask(home / "many", "Who forges plough77 and hammer27?", model=model, workspace=home / "home").found
    for none in ("none", None):
        answer = bl.ask(home / "many", strange, model=says, gate=none, workspace=home / "home")
        assert answer.said and answer.probability is None
    with opened_answering(home / "idx", workspace=home / "home") as answering:
        assert answering.gate is None
    nonsense = "Which quarks decay into the furnace of gluons at Geneva, said Bohr in his lectures?"
    assert not bl.ask(home / "idx", nonsense, workspace=home / "home").found
    with opened_answering(retriever) as answering:  # a retriever of the caller's own: nothing is known of its scores
        assert answering.gate is None


def test_mistakes(home):
    with pytest.raises(ArtifactError, match="no index"):
        ask(home / "none", "x", workspace=home / "home")
    with (
        pytest.raises(ConfigError, match="no model to rerank"),
        opened_answering(home / "idx", rerank="model", workspace=home / "home"),
    ):
        pass
