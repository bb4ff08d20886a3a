"""The parts of a tokenizer.json that several published forms share: added tokens, templates, GPT-2's byte alphabet.

The layout is that of the `tokenizers` library. This module does not know any file but tokenizer.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.errors import DataError

MAX_VOCAB_SIZE = 1 << 22


def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's characters for the 256 bytes: printable ones stand for themselves, the rest from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(rest)}


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """The JSON object that a file holds, or DataError."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise DataError(f"{where} is damaged: it holds no JSON object")
    return value


def decode_text(data: bytes, where: str) -> str:
    """A file's UTF-8 text, or DataError."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is damaged: it is not UTF-8 ({error.reason} at byte {error.start})") from error


def text_of(token: Any) -> str:
    """The spelling of a token given as text or as {"content": text}; "" if there is none."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def added_token(content: str, index: int, *, special: bool = True, **flags: bool) -> dict[str, Any]:
    """An entry of `added_tokens`."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": index, "content": content, "special": special, **plain, **flags}


def template(single: Sequence[tuple[str, int]], pair: Sequence[tuple[str, int]], ids: Mapping[str, int]) -> Any:
    """A TemplateProcessing of (token, type id); "A" and "B" stand for the texts."""

    def piece(name: str, type_id: int) -> dict[str, Any]:
        kind = "Sequence" if name in ("A", "B") else "SpecialToken"
        return {kind: {"id": name, "type_id": type_id}}

    used = {name for name, _ in (*single, *pair) if name not in ("A", "B")}
    return {
        "type": "TemplateProcessing",
        "single": [piece(*one) for one in single],
        "pair": [piece(*one) for one in pair],
        "special_tokens": {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in sorted(used)},
    }


def byte_level(*, add_prefix_space: bool = False, use_regex: bool = True) -> dict[str, Any]:
    """A ByteLevel part: it serves as pre-tokenizer, decoder and post-processor."""
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": False, "use_regex": use_regex}


def split_then_bytes(pattern: str) -> dict[str, Any]:
    """A pre-tokenizer that cuts a text by a pattern and spells the pieces in the byte alphabet."""
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level(use_regex=False)]}


def replace(pattern: str, content: str, *, regex: bool = False) -> dict[str, Any]:
    """A Replace part: it serves as normalizer and decoder."""
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": pattern}, "content": content}


def sequence(kind: str, parts: Sequence[Any]) -> Any:
    """Several parts as one; `kind` is "normalizers" or "decoders". None if there are none."""
    return {"type": "Sequence", kind: list(parts)} if parts else None


def described(model: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    """A whole tokenizer.json; parts that are not given are null."""
    names = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": parts.get("added_tokens", []),
        **{name: parts.get(name) for name in names},
        "model": dict(model),
    }
