"""The special tokens and the default chat template."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.tokenizer import Tokenizer, TokenizerConfig
from bloomery.tokenizer.chat import ChatTemplate
from bloomery.tokenizer.special import (
    CHAT_TEMPLATE,
    END_OF_TEXT,
    IM_END,
    IM_START,
    MASK,
    MIDDLE_TOKENS,
    SPECIAL_TOKENS,
    TURN_ENDS,
)
from bloomery.tokenizer.train import learn, write_tokenizer


def test_the_template_is_chatml_after_one_bos():
    template = ChatTemplate(CHAT_TEMPLATE, special_texts=SPECIAL_TOKENS, variables={"bos_token": END_OF_TEXT})
    messages = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi\n"}]
    rendered = template.render(messages, add_generation_prompt=True)
    assert rendered.text == (
        f"{END_OF_TEXT}{IM_START}system\n Be brief. {IM_END}\n{IM_START}user\nHi\n{IM_END}\n{IM_START}assistant\n"
    )


def test_our_turn_end_ends_a_generation():
    assert IM_END in TURN_ENDS and SPECIAL_TOKENS[0] == END_OF_TEXT


def _made(tmp_path, **options) -> Tokenizer:
    config = TokenizerConfig(vocab_size=400, **options)
    write_tokenizer(learn(["some words to learn from"] * 5, config), tmp_path)
    return Tokenizer.load(tmp_path)


def test_masks_sentinels_and_marks(tmp_path):
    made = _made(tmp_path, masks=True, sentinels=5, fill_in_the_middle=True)
    assert made.mask_id == 3 and made.sentinel_ids == [4, 5, 6, 7, 8] and made.middle_ids == (9, 10, 11)
    assert made.token_text(3) == MASK and made.token_text(9) == MIDDLE_TOKENS[0]
    assert {3, 4, 9, 10, 11} <= made.special_ids
    for text in (MASK, "<extra_id_0>", *MIDDLE_TOKENS):
        assert not set(made.encode(f"a {text} b")) & made.special_ids
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.mask_token == MASK and theirs.convert_tokens_to_ids("<extra_id_4>") == 8


def test_none_by_default(tmp_path):
    made = _made(tmp_path)
    assert made.mask_id is None and made.sentinel_ids == [] and made.middle_ids is None


def test_they_need_room():
    with pytest.raises(ConfigError, match="256 bytes and special tokens are 359"):
        TokenizerConfig(vocab_size=300, sentinels=100)
