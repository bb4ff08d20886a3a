"""POST /tokenize, POST /detokenize and GET /tokenizer_info, at the server's root, as vLLM and lm-eval have them.

Text that spells a special token becomes that token here, and nowhere else on this server; messages go through the
chat template, where it never does. This module does not know how requests wait.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bloomery.core.errors import RequestError
from bloomery.engine import TextEncoder
from bloomery.server.schemas import Flag, Message, Text, Whole, refuse_unsupported
from bloomery.server.shelf import Served, readable_tokens
from bloomery.tokenizer import Tokenizer

TOKENIZE, DETOKENIZE, INFO = "/tokenize", "/detokenize", "/tokenizer_info"
_MAX_TOKENS = 4_000_000


class TokenizeBody(BaseModel):
    """`prompt` or `messages`. `add_special_tokens` is on for a prompt and means BOS, or what an encoder has around a
    text; a chat template has its own."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: Text | None = None
    prompt: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)] | None = None
    add_special_tokens: Flag | None = None
    add_generation_prompt: Flag | None = None
    return_token_strs: Flag | None = None


class DetokenizeBody(BaseModel):
    """Special tokens are spelt out in the text."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: Text | None = None
    tokens: Annotated[list[Annotated[Whole, Field(ge=0)]], Field(max_length=_MAX_TOKENS)]


def tokenize(model: Served, body: TokenizeBody) -> dict[str, Any]:
    """vLLM's answer: tokens, count, max_model_len, and token_strs if they were asked for."""
    refuse_unsupported(body.model_extra or {}, type(body).model_fields)
    if (body.prompt is None) == (body.messages is None):
        raise RequestError("give either prompt or messages", param="prompt", code="invalid_value")
    ids = _prompt_ids(model, body) if body.messages is None else _chat_ids(model, body)
    tokenizer = model.tokenizer
    return {
        "count": len(ids),
        "max_model_len": readable_tokens(model),
        "tokens": ids,
        "token_strs": [tokenizer.token_text(i) for i in ids] if body.return_token_strs else None,
    }


def _prompt_ids(model: Served, body: TokenizeBody) -> list[int]:
    assert body.prompt is not None
    if body.add_generation_prompt is not None:
        raise RequestError("add_generation_prompt needs messages", param="add_generation_prompt", code="invalid_value")
    tokenizer, special = model.tokenizer, body.add_special_tokens is not False
    if isinstance(model, TextEncoder) and special:
        return tokenizer.encode_with_special(body.prompt, allow_special=True)[0]
    return tokenizer.encode(body.prompt, add_bos=special and tokenizer.adds_bos, allow_special=True)


def _chat_ids(model: Served, body: TokenizeBody) -> list[int]:
    assert body.messages is not None
    if body.add_special_tokens:
        message = "a chat template has its special tokens already: add_special_tokens needs a prompt"
        raise RequestError(message, param="add_special_tokens", code="unsupported_parameter")
    messages = [message.plain(place) for place, message in enumerate(body.messages)]
    return model.tokenizer.encode_chat(messages, add_generation_prompt=body.add_generation_prompt is not False)


def detokenize(model: Served, body: DetokenizeBody) -> dict[str, Any]:
    """{"prompt": text}; RequestError for an id that the tokenizer does not have."""
    refuse_unsupported(body.model_extra or {}, type(body).model_fields)
    known = model.tokenizer.vocab_size
    for index in body.tokens:
        if index >= known:
            raise RequestError(f"token id {index} is outside the vocabulary of {known:,}", param="tokens")
    return {"prompt": model.tokenizer.decode(body.tokens, skip_special=False)}


def tokenizer_info(model: Served) -> dict[str, Any]:
    """The names of special tokens and the chat template; `tokenizer_class` is what `transformers` loads it with."""
    tokenizer = model.tokenizer
    template = tokenizer.chat_template
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model": model.name,
        "vocab_size": tokenizer.vocab_size,
        "max_model_len": readable_tokens(model),
        "add_bos_token": tokenizer.adds_bos,
        "bos_token": _spelt(tokenizer, tokenizer.bos_id),
        "eos_token": _spelt(tokenizer, tokenizer.eos_id),
        "pad_token": _spelt(tokenizer, tokenizer.pad_id),
        "mask_token": _spelt(tokenizer, tokenizer.mask_id),
        "cls_token": _spelt(tokenizer, tokenizer.cls_id),
        "sep_token": _spelt(tokenizer, tokenizer.sep_id),
        "chat_template": template.source if template is not None else None,
    }


def _spelt(tokenizer: Tokenizer, index: int | None) -> str | None:
    return None if index is None else tokenizer.decode([index], skip_special=False)
