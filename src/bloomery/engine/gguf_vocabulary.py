"""GGUF vocabularies: a tokenizer as llama.cpp's own code runs it.

llama.cpp does not read tokenizer.json: it has byte-level BPE with split patterns that it knows by name, SentencePiece's
BPE and Unigram, and BERT's word pieces. A tokenizer that is one of these is written as such, any other is an error:
text must give the same ids there as here. This module does not know models, nor split patterns (`gguf_splits`).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import ConfigError, DataError
from bloomery.engine.gguf_splits import split_name
from bloomery.tokenizer import Tokenizer

_MARK = "▁"
_NEVER = -1e9
"""The score of a piece that nothing is merged into."""
_UNUSED = -1e4
"""The score of a row that stands for no piece."""
_SPACES = (" {2,}", r"\A +", rf"{_MARK}+\z")
"""How SentencePiece takes spaces away that say nothing: between words, before and after a text."""


def write_vocabulary(
    gguf: Any,
    writer: Any,
    tokenizer: Tokenizer,
    *,
    rows: int,
    eos_id: int | None = None,
    encloses: bool = False,
    ends: bool = False,
) -> None:
    """Write a tokenizer's tokens, kinds, merges or scores, special ids and chat template; `rows` is how many the
    model's embedding has, `eos_id` what ends a generation. `encloses`: a text is put between what the tokenizer puts
    it between, as encoders read it. `ends`: `eos_id` follows every text and nothing stands before it, as T5 reads it.
    ConfigError for a tokenizer that llama.cpp has no code for."""
    described = tokenizer.description
    model = described.get("model", {})
    kind = model.get("type")
    if kind not in ("WordPiece", "BPE", "Unigram"):
        raise ConfigError(f"llama.cpp has no {kind} tokenizer for this family", hint="export a folder instead")
    pieces = _Pieces(gguf, tokenizer, rows)
    if kind == "WordPiece":
        _write_word_pieces(writer, described, pieces)
    elif kind == "Unigram":
        _write_unigram(writer, described, pieces)
    elif model.get("byte_fallback"):
        _write_sentence_pieces(writer, described, pieces)
    else:
        _write_byte_pairs(writer, described, pieces)
    writer.add_token_types(pieces.types)
    frame = tokenizer.encode_with_special("")[0] if encloses else []
    first, last = frame[0] if frame else tokenizer.bos_id, frame[1] if len(frame) > 1 else None
    writer.add_add_bos_token(bool(frame) if encloses else tokenizer.adds_bos and not ends)
    # Word pieces are ended by the separator, whatever is said of the end.
    writer.add_add_eos_token(ends or (last is not None and kind != "WordPiece"))
    for add, index in (
        (writer.add_bos_token_id, first),
        (writer.add_eos_token_id, last if encloses else eos_id),
        (writer.add_unk_token_id, pieces.unk_id),
        (writer.add_sep_token_id, tokenizer.sep_id if encloses else None),
        (writer.add_mask_token_id, tokenizer.mask_id if encloses else None),
        (writer.add_pad_token_id, tokenizer.pad_id),
    ):
        if index is not None:
            add(index)
    if tokenizer.chat_template is not None:
        writer.add_chat_template(tokenizer.chat_template.source)


class _Pieces:
    """The text and kind of each id. Rows beyond the vocabulary are padding of the matrix: nothing may spell them."""

    def __init__(self, gguf: Any, tokenizer: Tokenizer, rows: int) -> None:
        described = tokenizer.description
        model = described.get("model", {})
        added = {token["id"]: token for token in described.get("added_tokens", [])}
        vocabulary = model.get("vocab", {})
        if isinstance(vocabulary, list):  # Unigram: pieces with their scores, by id
            vocabulary = {text: index for index, (text, _) in enumerate(vocabulary)}
        texts = {index: text for text, index in vocabulary.items()}
        texts |= {index: token["content"] for index, token in added.items()}
        self.ids = {text: index for index, text in texts.items()}
        self.unk_id = model["unk_id"] if "unk_id" in model else self.ids.get(str(model.get("unk_token")))
        self.texts = [texts.get(index, f"[PAD{index}]") for index in range(rows)]
        self.types = []
        for index in range(rows):
            token, text = added.get(index), self.texts[index]
            if index not in texts:
                kind = gguf.TokenType.UNUSED
            elif index == self.unk_id and (model.get("byte_fallback") or "unk_id" in model):
                kind = gguf.TokenType.UNKNOWN
            elif token is not None:
                kind = gguf.TokenType.CONTROL if token.get("special") else gguf.TokenType.USER_DEFINED
            elif model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x"):
                kind = gguf.TokenType.BYTE
            else:
                kind = gguf.TokenType.NORMAL
            self.types.append(kind)
        self.plain = gguf.TokenType.NORMAL
        if len(set(self.texts)) != len(self.texts):
            raise DataError(f"{tokenizer.source}: two ids have the same text")


def _merges(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Pairs in the order of their rank."""
    merges = described.get("model", {}).get("merges", [])
    pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]
    return [(left, right) for left, right in pairs]


def _write_byte_pairs(writer: Any, described: Mapping[str, Any], pieces: _Pieces) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split_name(described))
    writer.add_token_list(pieces.texts)
    if merges := _merges(described):
        writer.add_token_merges([" ".join(merge) for merge in merges])


def _write_sentence_pieces(writer: Any, described: Mapping[str, Any], pieces: _Pieces) -> None:
    """SentencePiece's BPE: the best-scored pair is merged first, so a piece's score is the rank of its first merge."""
    scores: dict[str, float] = {}
    for rank, (left, right) in enumerate(_merges(described)):
        scores.setdefault(left + right, float(-rank))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces.texts)
    writer.add_token_scores([scores.get(text, _NEVER) for text in pieces.texts])
    writer.add_add_space_prefix(_space_prefix(described))


def _space_prefix(described: Mapping[str, Any]) -> bool:
    """Whether text is given a space to begin with. ConfigError for a tokenizer that changes text in other ways."""
    normalizer = described.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    prefix = False
    for step in steps:
        pattern = (step.get("pattern") or {}).get("String")
        if step.get("type") == "Prepend" and step.get("prepend") == _MARK:
            prefix = True
        elif not (step.get("type") == "Replace" and pattern == " " and step.get("content") == _MARK):
            raise ConfigError(
                f"llama.cpp has no {step.get('type')} normalizer for SentencePiece", hint="export a folder instead"
            )
    outer = described.get("pre_tokenizer") or {}
    if outer.get("type") == "Metaspace":
        if outer.get("replacement") != _MARK:
            raise ConfigError("llama.cpp marks spaces as SentencePiece does only", hint="export a folder instead")
        prefix = prefix or outer.get("prepend_scheme", "always") != "never"
    return prefix


def _write_unigram(writer: Any, described: Mapping[str, Any], pieces: _Pieces) -> None:
    """SentencePiece's Unigram: the most probable pieces of a text that its character map has made even."""
    model = described["model"]
    if model.get("byte_fallback"):
        raise ConfigError("llama.cpp has no Unigram tokenizer with bytes", hint="export a folder instead")
    rules = _unigram_rules(described)
    scores = [float(score) for _, score in model["vocab"]]
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces.texts)
    writer.add_token_scores([*scores, *([_UNUSED] * (len(pieces.texts) - len(scores)))][: len(pieces.texts)])
    writer.add_add_space_prefix(rules.prefix)
    writer.add_remove_extra_whitespaces(rules.merges_spaces)
    if rules.charsmap:
        writer.add_precompiled_charsmap(rules.charsmap)


@dataclass
class _UnigramRules:
    charsmap: bytes = b""
    prefix: bool = False
    merges_spaces: bool = False


def _unigram_rules(described: Mapping[str, Any]) -> _UnigramRules:
    """What SentencePiece does to a text before it cuts it. ConfigError for a tokenizer that does more."""
    rules = _UnigramRules()
    for step in _steps(described.get("normalizer"), "normalizers"):
        kind, pattern = step.get("type"), step.get("pattern") or {}
        if kind == "Precompiled":
            rules.charsmap = base64.b64decode(step.get("precompiled_charsmap") or "")
        elif kind == "Prepend" and step.get("prepend") == _MARK:
            rules.prefix = True
        elif kind == "Strip" or (kind == "Replace" and pattern.get("Regex") in _SPACES):
            rules.merges_spaces = rules.merges_spaces or pattern.get("Regex") == " {2,}"
        elif kind == "Replace" and pattern.get("String") == " " and step.get("content") == _MARK:
            pass
        elif kind == "Replace" and "String" in pattern and not rules.charsmap:
            pass  # what the character map does as well, by its longest rule
        else:
            raise ConfigError(f"llama.cpp has no {kind} normalizer for Unigram", hint="export a folder instead")
    for step in _steps(described.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") == "WhitespaceSplit":
            rules.merges_spaces = True
        elif step.get("type") == "Metaspace" and step.get("replacement") == _MARK:
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            rules.prefix = rules.prefix or scheme != "never"
        else:
            raise ConfigError(f"llama.cpp has no {step.get('type')} for Unigram", hint="export a folder instead")
    return rules


def _steps(outer: Any, name: str) -> list[Mapping[str, Any]]:
    """The steps of a sequence, or the one that stands alone."""
    return outer.get(name, [outer]) if outer else []


def _write_word_pieces(writer: Any, described: Mapping[str, Any], pieces: _Pieces) -> None:
    """BERT's word pieces: what begins a word bears a mark, what goes on with one none."""
    normalizer = described.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer" or (described.get("pre_tokenizer") or {}).get("type") not in (
        "BertPreTokenizer",
        None,
    ):
        raise ConfigError("llama.cpp splits word pieces as BERT does only", hint="export a folder instead")
    texts = []
    for text, kind in zip(pieces.texts, pieces.types, strict=True):
        inside = text.startswith("##")
        texts.append(text if kind != pieces.plain else text[2:] if inside else _MARK + text)
    lower, accents = bool(normalizer.get("lowercase")), normalizer.get("strip_accents")
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", lower)
    writer.add_bool("tokenizer.ggml.normalizer.strip_accents", lower if accents is None else bool(accents))
