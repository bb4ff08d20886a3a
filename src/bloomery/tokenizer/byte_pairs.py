"""vocab.json and merges.txt as tokenizer.json: GPT-2, RoBERTa, CLIP, Qwen2 (Sennrich et al., 2016, arXiv:1508.07909).

All four are byte pairs over GPT-2's byte alphabet. They differ in how text is split, whether it is normalised, how a
word's end is marked and which special tokens stand around a text. OpenAI's own names of the files, encoder.json and
vocab.bpe, hold the same; CLIP's bpe_simple_vocab_16e6.txt holds merges from which the vocabulary follows.
This module does not know other forms, nor how a family is recognised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import DataError
from bloomery.tokenizer.description import (
    MAX_VOCAB_SIZE,
    added_token,
    byte_level,
    byte_level_alphabet,
    decode_text,
    described,
    parse_object,
    replace,
    sequence,
    split_then_bytes,
    text_of,
)
from bloomery.tokenizer.tiktoken_file import QWEN_PATTERN

_END = "<|endoftext|>"
_WORD_END = "</w>"
_CLIP_PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_MERGES = 49_152 - 256 - 2
_TOKENS = {
    "gpt2": {"bos_token": _END, "eos_token": _END, "unk_token": _END},
    "qwen2": {"eos_token": _END, "pad_token": _END},
    "clip": {"bos_token": "<|startoftext|>", "eos_token": _END, "unk_token": _END, "pad_token": _END},
    "roberta": {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": "<mask>",
    },
}
FAMILIES = tuple(_TOKENS)


def read_vocab(data: bytes, where: str) -> dict[str, int]:
    """Token to id of a vocab.json, or DataError."""
    vocab = parse_object(data, where)
    right = all(type(index) is int and 0 <= index < MAX_VOCAB_SIZE for index in vocab.values())
    if not vocab or not right or len(set(vocab.values())) < len(vocab):
        raise DataError(f"{where} is damaged: it should map tokens to ids, each a number of its own")
    return vocab


def read_merges(data: bytes, where: str) -> list[list[str]]:
    """The pairs of a merges.txt in order, or DataError."""
    merges: list[list[str]] = []
    lines = decode_text(data, where).split("\n")
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith('"bpe_simple_vocab')) or line.startswith("#version"):
            continue
        pair = line.split(" ")
        if len(pair) != 2 or not all(pair):
            raise DataError(f"{where} is damaged: line {number} is not a pair of tokens")
        merges.append(pair)
    return merges


def clip_vocab(merges: list[list[str]]) -> dict[str, int]:
    """CLIP's vocabulary: the bytes, the bytes at a word's end, the merges, two special tokens."""
    letters = list(byte_level_alphabet())
    words = [*letters, *(letter + _WORD_END for letter in letters), *(left + right for left, right in merges)]
    vocab = {text: index for index, text in enumerate([*words, "<|startoftext|>", _END])}
    if len(vocab) < len(words) + 2:
        raise DataError("the merges of CLIP's vocabulary give a token twice")
    return vocab


def from_byte_pairs(
    vocab: dict[str, int], merges: list[list[str]], family: str, settings: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json); `settings` are the folder's own tokenizer_config."""
    missing = next((one for pair in merges for one in (*pair, pair[0] + pair[1]) if one not in vocab), None)
    if missing is not None:
        raise DataError(f"{where} do not belong together: the vocabulary lacks {missing!r}, which a merge names")
    tokens = {name: text_of(settings.get(name)) or text for name, text in _TOKENS[family].items()}
    for name in ("bos_token", "eos_token"):
        if family != "qwen2" and tokens[name] not in vocab:
            raise DataError(f"{where} lack {tokens[name]!r}, the {name} of a {family} vocabulary")
    prefix = settings.get("add_prefix_space") is True
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": tokens["unk_token"] if family in ("clip", "roberta") and tokens["unk_token"] in vocab else None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": _WORD_END if family == "clip" else "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }
    special = sorted({text for text in tokens.values() if text in vocab}, key=lambda text: vocab[text])
    return (
        described(
            model,
            added_tokens=[added_token(text, vocab[text], lstrip=text == tokens.get("mask_token")) for text in special],
            normalizer=_normalizer(family),
            pre_tokenizer=_pre_tokenizer(family, prefix),
            decoder=byte_level(),
            post_processor=_post_processor(family, tokens, vocab, settings),
        ),
        dict(tokens),
    )


def _normalizer(family: str) -> Any:
    if family == "clip":
        spaces = replace(r"\s+", " ", regex=True)
        return sequence("normalizers", [{"type": "NFC"}, spaces, {"type": "Lowercase"}])
    return {"type": "NFC"} if family == "qwen2" else None


def _pre_tokenizer(family: str, prefix: bool) -> Any:
    if family == "clip":
        split = {"type": "Split", "pattern": {"Regex": _CLIP_PATTERN}, "behavior": "Removed", "invert": True}
        return {"type": "Sequence", "pretokenizers": [split, byte_level()]}
    return split_then_bytes(QWEN_PATTERN) if family == "qwen2" else byte_level(add_prefix_space=prefix)


def _post_processor(
    family: str, tokens: Mapping[str, str], vocab: Mapping[str, int], settings: Mapping[str, Any]
) -> Any:
    if family in ("gpt2", "qwen2"):
        if settings.get("add_bos_token") is True:
            raise DataError("add_bos_token in a GPT-2 folder without tokenizer.json is not supported")
        return byte_level()
    start, end = ("bos_token", "eos_token") if family == "clip" else ("cls_token", "sep_token")
    return {
        "type": "RobertaProcessing",
        "sep": [tokens[end], vocab[tokens[end]]],
        "cls": [tokens[start], vocab[tokens[start]]],
        "trim_offsets": family == "roberta",
        "add_prefix_space": settings.get("add_prefix_space") is True,
    }


def trim_clip_merges(merges: list[list[str]]) -> list[list[str]]:
    """The merges of bpe_simple_vocab_16e6.txt that CLIP uses: the file holds five times as many."""
    return merges[:_CLIP_MERGES]
