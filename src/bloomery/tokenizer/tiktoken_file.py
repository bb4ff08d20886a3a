"""tiktoken rank files as tokenizer.json: cl100k, o200k, r50k, p50k, Llama 3 and Qwen.

A rank file holds one token a line: its bytes in base64 and its rank, which is its id. Two neighbours merge if their
bytes together are a token, the lowest rank first. The library asks for pairs instead, so every way to cut a token
into two tokens becomes a merge of its rank. The file names neither the pattern that splits text nor the special
tokens: both are published with each encoding, which is recognised by its number of ranks, unless a file beside it says
them, as `export` writes one. The patterns are written for the regex engine of `tokenizers` and split as tiktoken's do.
This module does not know other forms.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from bloomery.core.errors import DataError
from bloomery.tokenizer.description import (
    added_token,
    byte_level,
    byte_level_alphabet,
    described,
    parse_object,
    split_then_bytes,
    template,
)
from bloomery.tokenizer.merge_order import all_merges

_MAX_BYTES = 16 * 1024 * 1024
_MAX_TOKENS = 1 << 20
_MAX_TOKEN_BYTES = 256
_LINE = re.compile(rb"([A-Za-z0-9+/]+={0,2}) ([0-9]{1,7})")

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_PATTERN = _GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_SHORT}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_SHORT}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_NAMED = (
    *("<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>"),
    *("<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eom_id|>", "<|eot_id|>", "<|python_tag|>"),
)


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """What is published beside a rank file. `bos` is put in front of a text, as the model's own code does it."""

    name: str
    pattern: str
    special: Mapping[str, int]
    bos: str | None = None
    eos: str
    nfc: bool = False
    names: Mapping[str, str] = field(default_factory=dict)


def _llama3() -> dict[str, int]:
    """Llama 3.1's names of the 256 special tokens; those that Llama 3 has under the same name have the same id."""
    reserved = [f"<|reserved_special_token_{2 + i}|>" for i in range(256 - len(_LLAMA3_NAMED))]
    return {text: 128_000 + i for i, text in enumerate((*_LLAMA3_NAMED, *reserved))}


def _qwen() -> dict[str, int]:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]
    return {text: 151_643 + i for i, text in enumerate(names)}


_END = "<|endoftext|>"
_FILL = {"<|fim_prefix|>": 100_258, "<|fim_middle|>": 100_259, "<|fim_suffix|>": 100_260, "<|endofprompt|>": 100_276}
ENCODINGS = {
    50_256: Encoding(name="r50k_base", pattern=GPT2_PATTERN, special={_END: 50_256}, eos=_END),
    50_280: Encoding(name="p50k_base", pattern=GPT2_PATTERN, special={_END: 50_256}, eos=_END),
    100_256: Encoding(name="cl100k_base", pattern=_GPT4, special={_END: 100_257, **_FILL}, eos=_END),
    199_998: Encoding(name="o200k_base", pattern=_GPT4O, special={_END: 199_999, "<|endofprompt|>": 200_018}, eos=_END),
    128_000: Encoding(name="Llama 3", pattern=_GPT4, special=_llama3(), bos="<|begin_of_text|>", eos="<|end_of_text|>"),
    151_643: Encoding(name="Qwen", pattern=QWEN_PATTERN, special=_qwen(), eos=_END, nfc=True),
}
"""By the number of ranks."""


def known_patterns() -> set[str]:
    """The patterns of all encodings."""
    return {one.pattern for one in ENCODINGS.values()}


def looks_like_tiktoken(data: bytes) -> bool:
    """Whether a file begins as a rank file; a SentencePiece model, which may have the same name, never does."""
    return _LINE.fullmatch(data[:512].split(b"\n", 1)[0].rstrip(b"\r")) is not None


def read_ranks(data: bytes, where: str) -> dict[bytes, int]:
    """Token to rank, in the order of the file. DataError, in one line, for anything that is no rank file."""
    if len(data) > _MAX_BYTES:
        raise DataError(f"{where} is larger than {_MAX_BYTES:,} bytes: not a file of tiktoken ranks")
    ranks: dict[bytes, int] = {}
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        line = line.rstrip(b"\r")
        if not line:
            continue
        match = _LINE.fullmatch(line)
        try:
            token = base64.b64decode(match[1], validate=True) if match else b""
        except binascii.Error:
            token = b""
        if match is None or not 0 < len(token) <= _MAX_TOKEN_BYTES or token in ranks:
            raise DataError(f'{where} is damaged: line {number} is not a new "base64 rank"')
        ranks[token] = int(match[2])
    missing = sum(bytes([byte]) not in ranks for byte in range(256))
    if missing or len(set(ranks.values())) < len(ranks) or max(ranks.values()) >= _MAX_TOKENS:
        raise DataError(f"{where} is damaged: {missing} of the 256 bytes are missing, or a rank is double or too high")
    return ranks


def read_encoding(data: bytes, where: str) -> Encoding:
    """What a file says that stands beside a rank file of ours: {"name", "pat_str", "special_tokens", "bos_token",
    "eos_token"}, the first three as tiktoken's Encoding takes them. DataError if it makes no sense."""
    said = parse_object(data, where)
    special, eos, bos, pattern = (said.get(key) for key in ("special_tokens", "eos_token", "bos_token", "pat_str"))
    if (
        not (isinstance(special, dict) and isinstance(eos, str) and isinstance(pattern, str))
        or not all(type(index) is int and index >= 0 for index in special.values())
        or eos not in special
        or bos not in (None, *special)
    ):
        raise DataError(f"{where} is damaged: it should name pat_str, special_tokens and an eos_token among them")
    return Encoding(name=str(said.get("name")), pattern=pattern, special=special, bos=bos, eos=eos)


def from_tiktoken(data: bytes, where: str, beside: bytes | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json) of a rank file; `beside` is what `read_encoding` reads."""
    ranks = read_ranks(data, where)
    encoding = ENCODINGS.get(len(ranks)) if beside is None else read_encoding(beside, f"{where}.json")
    if encoding is None:
        known = ", ".join(f"{one.name} ({count:,})" for count, one in ENCODINGS.items())
        raise DataError(
            f"{where} holds {len(ranks):,} ranks, which is no known encoding, and no file beside it says more",
            hint=f"{PurePath(where).name}.json should name pat_str, special_tokens and eos_token, as bloomery export "
            f"writes it; known without: {known}",
        )
    taken = set(ranks.values())
    if taken & set(encoding.special.values()):
        raise DataError(f"{where} gives ranks to the special tokens of {encoding.name}")
    spelt = {byte: character for character, byte in byte_level_alphabet().items()}
    vocab = {"".join(spelt[byte] for byte in token): rank for token, rank in ranks.items()}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": True,  # tiktoken takes a whole piece that is a token, merges or not
        # Special tokens stand in the vocabulary too, for the library numbers those that do not without gaps.
        "vocab": vocab | dict(encoding.special),
        "merges": [list(pair) for pair in all_merges(vocab)],
    }
    config: dict[str, Any] = {"bos_token": encoding.bos, "eos_token": encoding.eos}
    return (
        described(
            model,
            added_tokens=[added_token(text, index) for text, index in encoding.special.items()],
            normalizer={"type": "NFC"} if encoding.nfc else None,
            pre_tokenizer=split_then_bytes(encoding.pattern),
            decoder=byte_level(),
            post_processor=_post_processor(encoding),
        ),
        {key: value for key, value in config.items() if value is not None},
    )


def _post_processor(encoding: Encoding) -> Any:
    if encoding.bos is None:
        return byte_level()
    bos = (encoding.bos, 0)
    return template([bos, ("A", 0)], [bos, ("A", 0), (encoding.bos, 1), ("B", 1)], encoding.special)
