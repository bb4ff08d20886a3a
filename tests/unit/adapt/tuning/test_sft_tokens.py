"""Examples as tokens: what is cut and told, what is held out, how rows are filled."""

from __future__ import annotations

import random
import runpy
from pathlib import Path
from typing import Any

import pytest

from bloomery.adapt.tuning.instruct_data import Example
from bloomery.adapt.tuning.sft_tokens import Encoder, Row, TokenizedExample, held_out, packed, with_template
from bloomery.core.errors import ConfigError, DataError
from bloomery.tokenizer import Tokenizer

make_tiny_model = runpy.run_path(str(Path(__file__).parents[3] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def bare(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """The same without a chat template."""
    import json

    folder = tmp_path_factory.mktemp("bare")
    tokenizer.save(folder)
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return Tokenizer.load(folder)


def _talk(answer: str = "A metal.", **more: Any) -> Example:
    messages = ({"role": "user", "content": "Iron?"}, {"role": "assistant", "content": answer})
    return Example(where="rows.jsonl line 3", messages=messages, **more)


def _texts(tokenizer: Tokenizer, one: TokenizedExample) -> tuple[str, str]:
    parts = [[i for i, learnt in zip(one.ids, one.learnt, strict=True) if learnt is which] for which in (False, True)]
    return tokenizer.decode(parts[0], skip_special=False), tokenizer.decode(parts[1], skip_special=False)


def test_completions_and_texts(tokenizer: Tokenizer):
    """A prompt is encoded as the engine does; an answer ends with the end of a document."""
    encoder = Encoder(tokenizer, 64)
    (one,) = encoder([Example(where="x", prompt="Iron is ", answer="a metal")])
    start = [tokenizer.bos_id] if tokenizer.adds_bos else []
    assert list(one.ids) == [
        *start, *tokenizer.encode("Iron is "), *tokenizer.encode("a metal"), tokenizer.end_id
    ]  # fmt: skip
    assert one.num_learnt == len(tokenizer.encode("a metal")) + 1
    (text,) = encoder([Example(where="x", answer="all of it")])
    assert text.num_learnt >= len(text.ids) - 1


def test_conversations_with_and_without_a_template(tokenizer: Tokenizer, bare: Tokenizer):
    (one,) = Encoder(tokenizer, 64)([_talk()])
    assert _texts(tokenizer, one)[1] == "A metal.<|im_end|>"
    headed = with_template(bare)
    assert with_template(tokenizer) is tokenizer
    encoder = Encoder(headed, 256)
    (two,) = encoder([_talk()])
    before, after = _texts(headed, two)
    begin = "<|endoftext|>" if headed.adds_bos else ""
    assert before.startswith(f"{begin}### Instruction:\nIron?\n\n### Response:\n")
    assert after == "A metal.<|endoftext|>" and not encoder.open_ended
    prompt = encoder.prompt(_talk())
    assert prompt == (list(two.ids[: len(prompt[0])]), "A metal.")  # type: ignore[index]
    assert encoder.prompt(Example(where="x", answer="text")) is None
    assert encoder.prompt(Example(where="x", prompt="p", answer="a")) is not None


def test_what_is_cut_is_counted(tokenizer: Tokenizer):
    encoder = Encoder(tokenizer, 40)
    made = encoder([_talk(), _talk("metal " * 50), Example(where="x", prompt="furnace " * 50, answer="a")])
    assert (len(made), encoder.cut, encoder.left_out) == (2, 2, 1)
    assert len(made[1].ids) == 40 and made[1].learnt[-1]


def test_a_template_s_refusal_names_the_line(tokenizer: Tokenizer):
    refusing = tokenizer.with_chat_template("{{ raise_exception('no system here') }}")
    with pytest.raises(DataError, match=r"rows.jsonl line 3: .*no system here"):
        Encoder(refusing, 64)([_talk()])


def test_held_out_is_drawn_from_content():
    """The same whatever the order, and the same one when others come; equal ones are on one side."""
    examples = [_talk(f"answer {n}") for n in range(50)]
    train, held, equal = held_out([*examples, examples[0]], 0.2, 100)
    assert (len(train), len(held), equal) == (40, 10, 1)
    shuffled = random.Random(1).sample(examples, 50)
    assert {one.identity for one in held_out(shuffled, 0.2, 100)[1]} == {one.identity for one in held}
    more = held_out([*examples, *(_talk(f"more {n}") for n in range(50))], 0.1, 100)[1]
    assert len(held_out(examples, 0.2, 3)[1]) == 3 and len(more) == 10
    with pytest.raises(ConfigError, match="from 0 to below 1"):
        held_out(examples, 1.0, 3)


def test_rows_are_filled():
    """Every example once, none too long; best fit decreasing needs at most 11/9 of the best number and 6/9 (Dosa)."""
    rng = random.Random(0)
    sizes = [rng.randint(1, 60) for _ in range(300)]
    examples = [TokenizedExample((n,) * size, (True,) * size) for n, size in enumerate(sizes)]
    rows = packed(examples, 64)
    assert sorted(one.ids[0] for row in rows for one in row.examples) == list(range(300))
    assert max(row.length for row in rows) <= 64
    assert len(rows) <= 11 / 9 * (sum(sizes) / 64 + 1) + 1
    assert packed([], 64) == [] and Row(()).length == 0
