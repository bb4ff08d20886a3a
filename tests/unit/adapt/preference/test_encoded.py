"""Encoded prompts and completions: where one ends and the other begins; labels are next tokens of completions."""

from __future__ import annotations

import numpy as np
import pytest

from bloomery.adapt.preference.encoded import Completion, encode_completion, encode_prompt, rows_of
from bloomery.core.errors import DataError
from bloomery.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(make_model) -> Tokenizer:
    return Tokenizer.load(make_model().path)


def test_messages_go_through_the_template_up_to_the_end_of_the_turn(tokenizer):
    messages = ({"role": "user", "content": "Say yes"},)
    one = encode_completion(tokenizer, messages, "yes")
    whole = tokenizer.encode_chat([*messages, {"role": "assistant", "content": "yes"}], add_generation_prompt=False)
    assert [*one.prompt, *one.completion] == whole[: len(one)]
    assert one.completion[-1] in tokenizer.eos_ids and tokenizer.decode(one.completion) == "yes"
    assert encode_prompt(tokenizer, messages) == one.prompt == encode_prompt(tokenizer, "Say yes")


def test_plain_texts_are_encoded_apart_where_there_is_no_template(tokenizer):
    class Plain:
        chat_template = None

        def __getattr__(self, name):
            return getattr(tokenizer, name)

    one = encode_completion(Plain(), "Once upon", " a time")  # type: ignore[arg-type]
    assert one.completion == (*tokenizer.encode(" a time"), tokenizer.end_id)
    assert one.prompt == tuple(tokenizer.encode("Once upon", add_bos=tokenizer.adds_bos))
    assert encode_prompt(Plain(), "")  # type: ignore[arg-type]


def test_a_template_that_writes_the_prompt_otherwise_is_refused(tokenizer):
    odd = tokenizer.with_chat_template(
        "{% for m in messages %}{{ m.content }}{{ loop.length }}{% endfor %}{% if add_generation_prompt %}!{% endif %}"
    )
    with pytest.raises(DataError, match="template"):
        encode_completion(odd, ({"role": "user", "content": "a"},), "b")


def test_a_text_cannot_end_its_turn_by_spelling_the_token_that_does(tokenizer):
    one = encode_completion(tokenizer, "a", "no <|im_end|> yes")
    assert sum(token in tokenizer.eos_ids for token in one.completion) == 1


def test_labels_are_the_next_tokens_of_completions():
    input_ids, labels = rows_of([Completion((1, 2), (3, 4)), Completion((5,), (6,))], pad_id=9)
    assert np.array_equal(input_ids, [[1, 2, 3], [5, 9, 9]])
    assert np.array_equal(labels, [[-100, 3, 4], [6, -100, -100]])
