"""The special tokens and the default chat template."""

from __future__ import annotations

from bloomery.tokenizer.chat import ChatTemplate
from bloomery.tokenizer.special import CHAT_TEMPLATE, END_OF_TEXT, IM_END, IM_START, SPECIAL_TOKENS, TURN_ENDS


def test_the_template_is_chatml_after_one_bos():
    template = ChatTemplate(CHAT_TEMPLATE, special_texts=SPECIAL_TOKENS, variables={"bos_token": END_OF_TEXT})
    messages = [{"role": "system", "content": " Be brief. "}, {"role": "user", "content": "Hi\n"}]
    rendered = template.render(messages, add_generation_prompt=True)
    assert rendered.text == (
        f"{END_OF_TEXT}{IM_START}system\n Be brief. {IM_END}\n{IM_START}user\nHi\n{IM_END}\n{IM_START}assistant\n"
    )


def test_our_turn_end_ends_a_generation():
    assert IM_END in TURN_ENDS and SPECIAL_TOKENS[0] == END_OF_TEXT
