"""A tokenizer written in other programs' forms: SentencePiece's model file and tiktoken's ranks.

Both are checked before they are written: text must give the same ids there as here. What a form has no words for is one
DataError that says why. This module does not know where files go.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import DataError
from bloomery.tokenizer.fast import tiktoken_terms
from bloomery.tokenizer.merge_order import Refusal, check_order, merges_of
from bloomery.tokenizer.sentencepiece_file import ModelType, Piece, PieceType, SentencePieceFile, write_sentencepiece
from bloomery.tokenizer.tokenizer import Tokenizer

_MARK = "▁"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACES = (r"\A +", " {2,}", rf"{_MARK}+\z")
_BYTE_CUT = "<(?=0x[0-9A-F]{2}>)"


def as_tiktoken(tokenizer: Tokenizer) -> tuple[bytes, bytes]:
    """(a rank file, JSON with what tiktoken's Encoding asks for besides). DataError where there is none."""
    try:
        ranks, pattern = tiktoken_terms(tokenizer)
    except Refusal as why:
        raise _error(tokenizer, "tiktoken ranks", why) from None
    lines = [b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in sorted(ranks.items(), key=lambda x: x[1])]
    added = tokenizer.description.get("added_tokens", [])
    beside = {
        "name": "bloomery",
        "pat_str": pattern,
        "special_tokens": {one["content"]: one["id"] for one in added},
        "bos_token": tokenizer.token_text(tokenizer.bos_id) if tokenizer.bos_id is not None else None,
        "eos_token": tokenizer.token_text(tokenizer.end_id),
    }
    return b"".join(lines), (json.dumps(beside, ensure_ascii=False, indent=1) + "\n").encode()


def as_sentencepiece(tokenizer: Tokenizer) -> bytes:
    """A SentencePiece model file. DataError where there is none."""
    try:
        return write_sentencepiece(_file(tokenizer))
    except Refusal as why:
        raise _error(tokenizer, "a SentencePiece model", why) from None


def _error(tokenizer: Tokenizer, form: str, why: Refusal) -> DataError:
    return DataError(f"{tokenizer.source} cannot be written as {form}: {why}", hint="a folder holds any tokenizer")


def _file(tokenizer: Tokenizer) -> SentencePieceFile:
    described = tokenizer.description
    model = described.get("model", {})
    kind = model.get("type")
    if kind == "BPE" and not model.get("byte_fallback"):
        raise Refusal("it splits text by a pattern and merges bytes, and SentencePiece merges the characters of a line")
    if kind not in ("Unigram", "BPE"):
        raise Refusal(f"SentencePiece has no {kind}")
    rules = _Rules(described)
    vocab: dict[str, float]
    if kind == "Unigram":
        vocab, unknown = dict(model["vocab"]), int(model["unk_id"])
        texts = [text for text, _ in model["vocab"]]
    else:
        vocab, texts, unknown = _scored(described, model)
    added = {one["id"]: one for one in described.get("added_tokens", [])}
    falls = bool(model.get("byte_fallback"))
    pieces = tuple(
        _piece(text, vocab, added.get(index), unknown=index == unknown, falls=falls) for index, text in enumerate(texts)
    )
    plain = [one for one in pieces if one.type is PieceType.NORMAL]
    chars = kind == "BPE" and not model.get("merges") and all(len(one.text) == 1 for one in plain)
    named = ((name, tokenizer.token_text(index) if index is not None else "") for name, index in _named(tokenizer))
    ids = {name: texts.index(text) if text in texts else -1 for name, text in named}
    return SentencePieceFile(
        pieces=pieces,
        model_type=ModelType.UNIGRAM if kind == "Unigram" else ModelType.CHAR if chars else ModelType.BPE,
        byte_fallback=falls,
        treat_whitespace_as_suffix=False,
        unk_id=unknown,
        bos_id=ids["bos"],
        eos_id=ids["eos"],
        pad_id=ids["pad"],
        normalizer="user_defined" if rules.charsmap else "identity",
        precompiled_charsmap=rules.charsmap,
        add_dummy_prefix=rules.prefix,
        remove_extra_whitespaces=rules.merges_spaces,
        escape_whitespaces=True,
    )


def _named(tokenizer: Tokenizer) -> list[tuple[str, int | None]]:
    return [("bos", tokenizer.bos_id), ("eos", tokenizer.eos_id), ("pad", tokenizer.pad_id)]


def _piece(
    text: str, scores: Mapping[str, float], added: Mapping[str, Any] | None, *, unknown: bool, falls: bool
) -> Piece:
    if unknown:
        kind = PieceType.UNKNOWN
    elif added is not None:
        kind = PieceType.CONTROL if added.get("special") else PieceType.USER_DEFINED
    else:
        kind = PieceType.BYTE if falls and _BYTE.fullmatch(text) else PieceType.NORMAL
    return Piece(text=text, score=scores.get(text, 0.0) if kind is PieceType.NORMAL else 0.0, type=kind)


def _scored(described: Mapping[str, Any], model: Mapping[str, Any]) -> tuple[dict[str, float], list[str], int]:
    """(score of every piece, texts by id, id of the unknown one) of a BPE: the earlier merged, the higher."""
    ids: dict[str, int] = {**model["vocab"], **{one["content"]: one["id"] for one in described["added_tokens"]}}
    texts = [text for text, _ in sorted(ids.items(), key=lambda one: one[1])]
    if sorted(ids.values()) != list(range(len(texts))):
        raise Refusal("there are gaps between its ids")
    unknown = model.get("unk_token")
    if unknown not in ids:
        raise Refusal("it has no unknown token")
    if model.get("ignore_merges"):
        raise Refusal("it takes whole words without merging")
    merges = merges_of(model)
    order = {text: rank for rank, text in enumerate(dict.fromkeys(left + right for left, right in merges))}
    special = {one["content"] for one in described["added_tokens"]} | {unknown}
    letters = [text for text in texts if text not in order and text not in special and not _BYTE.fullmatch(text)]
    if odd := [text for text in letters if len(text) > 1]:
        raise Refusal(f"nothing is merged into {odd[0]!r}, and SentencePiece would")
    ranks = {text: rank for rank, text in enumerate([*letters, *order])}
    check_order(merges, letters, ranks, whole=False)
    scores = {text: -float(rank) for text, rank in order.items()}
    return scores | {text: -float(len(order) + rank) for rank, text in enumerate(letters)}, texts, ids[unknown]


class _Rules:
    """What is done to a text before it is cut, in SentencePiece's words; Refusal where it has none."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.charsmap = b""
        self.prefix = False
        self.merges_spaces = False
        self._marks = False
        steps = _steps(described.get("normalizer"), "normalizers")
        mapped = any(step.get("type") == "Precompiled" for step in steps)
        for step in steps:
            self._normalizer(step, mapped)
        for step in _steps(described.get("pre_tokenizer"), "pretokenizers"):
            self._pre_tokenizer(step)
        if not self._marks:
            raise Refusal("it does not write spaces as marks")

    def _normalizer(self, step: Mapping[str, Any], mapped: bool) -> None:
        kind, pattern = step.get("type"), step.get("pattern") or {}
        if kind == "Precompiled":
            self.charsmap = base64.b64decode(step.get("precompiled_charsmap") or "")
        elif kind == "Prepend" and step.get("prepend") == _MARK:
            self.prefix = True
        elif kind == "Replace" and pattern.get("String") == " " and step.get("content") == _MARK:
            self._marks = True
        elif kind == "Replace" and pattern.get("Regex") in _SPACES:
            self.merges_spaces = True
        elif not (kind == "Replace" and "String" in pattern and mapped):  # what the character map does as well
            raise Refusal(f"SentencePiece has no {kind} normalizer")

    def _pre_tokenizer(self, step: Mapping[str, Any]) -> None:
        kind, pattern = step.get("type"), step.get("pattern") or {}
        if kind == "Metaspace" and step.get("replacement") == _MARK:
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            self.prefix, self._marks = self.prefix or scheme != "never", True
        elif kind == "WhitespaceSplit":
            self.merges_spaces = True
        elif not (kind == "Split" and pattern.get("Regex") == _BYTE_CUT):
            raise Refusal(f"it splits text by {kind}")


def _steps(outer: Any, name: str) -> list[Mapping[str, Any]]:
    """The steps of a sequence, or the one that stands alone."""
    return outer.get(name, [outer]) if outer else []
