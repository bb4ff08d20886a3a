"""A small corpus with labels that are known, and a model that says what it is told to."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bloomery.core.artifact import Artifact
from bloomery.core.messages import ChatAnswer, ChatDelta, ChatOptions, Usage
from bloomery.core.quantity import Quantity
from bloomery.core.workspace import Workspace
from bloomery.corpus import CurateConfig, curate

RULES = """
name = "spam"
kind = "choice"
instruction = "Is this spam?"
labels = ["ham", "spam"]
[[function]]
name = "prizes"
label = "spam"
keywords = ["prize", "free"]
[[function]]
name = "numbers"
label = "spam"
regex = "\\\\d{5}"
[[function]]
name = "money"
label = "spam"
keywords = ["£"]
[[function]]
name = "people"
label = "ham"
keywords = ["i", "you"]
[[function]]
name = "places"
label = "ham"
keywords = ["home", "work"]
"""


class Spam(NamedTuple):
    """A workspace with a corpus of messages whose metadata says what they are, and a file of rules."""

    workspace: Workspace
    corpus: Artifact
    rules: Path


@pytest.fixture(scope="session")
def spam(tmp_path_factory: pytest.TempPathFactory) -> Spam:
    folder = tmp_path_factory.mktemp("spam")
    rng = random.Random(0)
    chances = {"prize": (0.02, 0.6), "free": (0.02, 0.5), "£": (0.01, 0.5), "12345": (0.01, 0.6)}
    chances |= {"I": (0.6, 0.1), "you": (0.5, 0.2), "home": (0.4, 0.03), "work": (0.4, 0.03)}
    with (folder / "messages.jsonl").open("w") as stream:
        for number in range(400):
            gold = int(rng.random() < 0.25)
            words = [word for word, chance in chances.items() if rng.random() < chance[gold]]
            words += [f"w{rng.randrange(1000)}" for _ in range(6)] + [f"number{number}"]
            rng.shuffle(words)
            stream.write(json.dumps({"text": " ".join(words), "kind": ["ham", "spam"][gold]}) + "\n")
    (folder / "rules.toml").write_text(RULES)
    workspace = Workspace(folder / "home")
    config = CurateConfig(metadata_fields=("kind",), test_fraction=0.2, validation_fraction=0.1)
    corpus = curate(folder / "messages.jsonl", config=config, workspace=workspace, workers=1)
    return Spam(workspace, corpus, folder / "rules.toml")


class ToldModel:
    """Says what `reply` makes of a question's text and its options; an error that it raises is the model's."""

    name = "told-model"

    def __init__(self, reply: Callable[[str, ChatOptions], str]) -> None:
        self.reply = reply
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def answer(self, messages, options: ChatOptions) -> ChatAnswer:
        text = messages[-1]["content"]
        with self._lock:
            self.asked.append(text)
        usage = Usage(prompt_tokens=len(text), completion_tokens=3, energy_joules=Quantity.exact(2.0, "counter"))
        said = self.reply(text, options)
        return ChatAnswer(text=said, finish_reason="stop", usage=usage, seconds=0.25, seed=options.seed)

    def stream(self, messages, options: ChatOptions) -> Iterator[ChatDelta]:
        yield ChatDelta(text=self.answer(messages, options).text)


@pytest.fixture
def told_model() -> type[ToldModel]:
    return ToldModel
