"""SentencePiece models as tokenizer.json: plain, T5, XLM-RoBERTa, Llama 2 and Gemma.

The reference is SentencePiece itself: what it normalises, prepends and joins is told here in the library's parts.

- Unigram (Kudo, 2018, arXiv:1804.10959): pieces and scores as they are. User-defined pieces get SentencePiece's bonus.
- CHAR: BPE of which nothing is merged.
- BPE: SentencePiece merges any two neighbours whose text is a piece, the best score first; every way to cut a piece
  into two pieces becomes a merge. User-defined pieces become added tokens, so the spaces at a text's end stay.
- SentencePiece applies the longest rule of the precompiled character map. The library takes the shortest one for a
  grapheme cluster of up to five bytes and single characters for others. So the letters that Unicode composes are
  replaced before, where the two differ. Korean in single jamo stays decomposed, as it does in `transformers`.

This module does not know the file's wire format, nor how a family is recognised.
"""

from __future__ import annotations

import base64
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.core.errors import DataError
from bloomery.tokenizer.description import added_token, described, replace, sequence, template
from bloomery.tokenizer.sentencepiece_file import ModelType, PieceType, SentencePieceFile

FAMILIES = ("sentencepiece", "t5", "xlm-roberta", "llama", "gemma")
_MARK = "▁"
_GRAPHEME_BYTES = 6  # the library gives the map whole clusters up to one byte less
_MAX_BPE_PIECE = 256
_MAX_EXTRA_IDS = 10_000


def from_sentencepiece(
    file: SentencePieceFile, family: str, settings: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json); `settings` are the folder's own tokenizer_config."""
    _check(file, where)
    pieces, config, added = _arranged(file, family, settings, where)
    ids = {text: index for index, (text, _) in enumerate(pieces)}
    unknown = ids[file.pieces[file.unk_id].text]
    user = [piece.text for piece in file.pieces if piece.type is PieceType.USER_DEFINED]
    special = [piece.text for piece in file.pieces if piece.type in (PieceType.CONTROL, PieceType.UNKNOWN)]
    if family == "gemma":
        special += [text for text in ("<start_of_turn>", "<end_of_turn>") if text in ids]
    added = [added_token(text, ids[text]) for text in dict.fromkeys([*special, *added])]
    bpe = file.model_type in (ModelType.BPE, ModelType.CHAR)  # characters are pairs of which none is merged
    if bpe:
        known = {one["content"] for one in added}
        # Found before text is normalised; runs of spaces, which they cannot be found as, are merged instead.
        user = [text for text in user if text not in known and _MARK not in text]
        added += [added_token(text, ids[text], special=False) for text in user]
        model = _bpe_model(file, ids, unknown)
    else:
        model = {"type": "Unigram", "unk_id": unknown, "vocab": pieces, "byte_fallback": file.byte_fallback}
    parted = bpe and bool(user)
    return (
        described(
            model,
            added_tokens=sorted(added, key=lambda one: one["id"]),
            normalizer=_normalizer(file, parted=parted),
            pre_tokenizer=_pre_tokenizer(file, parted=parted),
            decoder=_decoder(file),
            post_processor=_post_processor(family, config, ids, settings),
        ),
        config,
    )


def _check(file: SentencePieceFile, where: str) -> None:
    if file.model_type is ModelType.WORD:
        raise DataError(f"{where} is a SentencePiece model of whole words", hint="UNIGRAM, BPE and CHAR are known")
    if file.treat_whitespace_as_suffix or not file.escape_whitespaces:
        raise DataError(f"{where} puts spaces at the ends of pieces or leaves them as they are: this is not supported")
    if any(piece.type is PieceType.UNUSED for piece in file.pieces):
        raise DataError(f"{where} has pieces marked as unused: this is not supported")


def _arranged(
    file: SentencePieceFile, family: str, settings: Mapping[str, Any], where: str
) -> tuple[list[tuple[str, float]], dict[str, Any], list[str]]:
    """(pieces by id, the names of special tokens, further special tokens) as the family orders them."""
    longest = max((piece.score for piece in file.pieces if piece.type is PieceType.NORMAL), default=0.0)
    pieces = [
        (piece.text, len(piece.text) * longest - 0.1 if piece.type is PieceType.USER_DEFINED else piece.score)
        for piece in file.pieces
    ]
    named = {"bos_token": file.bos_id, "eos_token": file.eos_id, "unk_token": file.unk_id, "pad_token": file.pad_id}
    config = {name: file.pieces[index].text for name, index in named.items() if index >= 0}
    if family == "t5":
        count = settings.get("extra_ids", 100)
        if type(count) is not int or not 0 <= count <= _MAX_EXTRA_IDS:
            raise DataError(f'{where}: "extra_ids" is {count!r}, but should be from 0 to {_MAX_EXTRA_IDS:,}')
        known = {text for text, _ in pieces}
        extra = [f"<extra_id_{i}>" for i in reversed(range(count)) if f"<extra_id_{i}>" not in known]
        return [*pieces, *((text, 0.0) for text in extra)], config, extra
    if family == "xlm-roberta":
        first = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        if [piece.text for piece in file.pieces[:3]] != ["<unk>", "<s>", "</s>"]:
            raise DataError(f"{where} does not begin with <unk>, <s>, </s>, as a file of XLM-RoBERTa does")
        config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
        config |= {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
        return [*first, *pieces[3:], ("<mask>", 0.0)], config, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return pieces, config, []


def _bpe_model(file: SentencePieceFile, ids: Mapping[str, int], unknown: int) -> dict[str, Any]:
    scores = {
        piece.text: piece.score
        for piece in file.pieces
        if piece.type is PieceType.NORMAL or (piece.type is PieceType.USER_DEFINED and _MARK in piece.text)
    }
    merges: list[tuple[float, int, int, str, str]] = []
    if file.model_type is ModelType.CHAR:
        scores = {}
    for text, score in scores.items():
        if len(text) > _MAX_BPE_PIECE:
            continue  # no merge makes so long a piece in any published model
        for cut in range(1, len(text)):
            left, right = text[:cut], text[cut:]
            if left in scores and right in scores:
                merges.append((-score, ids[left], ids[right], left, right))
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": next(text for text, index in ids.items() if index == unknown),
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": file.byte_fallback,
        "ignore_merges": False,
        "vocab": dict(ids),
        "merges": [[left, right] for *_, left, right in sorted(merges)],
    }


def _normalizer(file: SentencePieceFile, *, parted: bool) -> Any:
    """`parted`: it is applied to what lies between added tokens, whose ends are not those of the text."""
    parts: list[dict[str, Any]] = []
    if file.precompiled_charsmap:
        parts += [replace(source, target) for source, target in _compositions(file.precompiled_charsmap)]
        charsmap = base64.b64encode(file.precompiled_charsmap).decode("ascii")
        parts.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if file.remove_extra_whitespaces and not parted:
        parts.append(replace(r"\A +", "", regex=True))
    if file.remove_extra_whitespaces:
        parts.append(replace(" {2,}", " ", regex=True))
    parts.append(replace(" ", _MARK))
    if file.remove_extra_whitespaces and not parted:
        parts.append(replace(rf"{_MARK}+\z", "", regex=True))
    if file.add_dummy_prefix and not parted:
        parts.append({"type": "Prepend", "prepend": _MARK})
    return sequence("normalizers", parts)


def _pre_tokenizer(file: SentencePieceFile, *, parted: bool) -> Any:
    if parted and file.add_dummy_prefix:
        # The library normalises what lies between added tokens bit by bit: the prefix is for the first only.
        return _metaspace("first") | {"split": False}
    if file.byte_fallback and file.model_type is ModelType.UNIGRAM:
        # Text that spells a byte's piece, "<0x41>", is no byte: the library would match it if it were not cut.
        pattern = {"Regex": "<(?=0x[0-9A-F]{2}>)"}
        return {"type": "Split", "pattern": pattern, "behavior": "MergedWithPrevious", "invert": False}
    return None


def _metaspace(scheme: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": _MARK, "prepend_scheme": scheme, "split": True}


def _decoder(file: SentencePieceFile) -> Any:
    if not file.byte_fallback:
        return _metaspace("always" if file.add_dummy_prefix else "never")
    parts: list[dict[str, Any]] = [replace(_MARK, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if file.add_dummy_prefix:
        parts.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return sequence("decoders", parts)


def _post_processor(family: str, config: dict[str, Any], ids: Mapping[str, int], settings: Mapping[str, Any]) -> Any:
    bos, eos = config.get("bos_token"), config.get("eos_token")
    if family == "t5" and eos is not None:
        return template([("A", 0), (eos, 0)], [("A", 0), (eos, 0), ("B", 0), (eos, 0)], ids)
    if family == "xlm-roberta":
        single = [("<s>", 0), ("A", 0), ("</s>", 0)]
        return template(single, [*single, ("</s>", 0), ("B", 0), ("</s>", 0)], ids)
    if family not in ("llama", "gemma"):
        return None
    first = [bos] if bos is not None and settings.get("add_bos_token", True) is not False else []
    last = [eos] if eos is not None and settings.get("add_eos_token", False) is True else []
    config |= {"add_bos_token": bool(first), "add_eos_token": bool(last)}
    single, second = ([(text, kind) for text in (*first, "AB"[kind], *last)] for kind in (0, 1))
    return template(single, [*single, *second], ids) if first or last else None


def _compositions(charsmap: bytes) -> Sequence[tuple[str, str]]:
    """The rules that compose letters of the basic plane and that the library would not find."""
    rules: dict[str, str] = {}
    lookup = _CharacterMap(charsmap)
    for code in range(0x10000):
        parts = unicodedata.decomposition(chr(code))
        if not parts or parts.startswith("<"):
            continue
        for source in ("".join(chr(int(part, 16)) for part in parts.split()), unicodedata.normalize("NFD", chr(code))):
            if len(source) < 2 or (target := lookup.get(source)) in (None, source):
                continue
            shorter = any(lookup.get(source[:end]) is not None for end in range(1, len(source)))
            if shorter or len(source.encode()) >= _GRAPHEME_BYTES:
                rules[source] = target
    return sorted(rules.items(), key=lambda rule: (-len(rule[0]), rule[0]))


class _CharacterMap:
    """SentencePiece's map: the size of a double-array trie, its units, and the replacements it points to."""

    def __init__(self, data: bytes) -> None:
        size = struct.unpack_from("<I", data)[0] if len(data) >= 4 else 0
        if not 4 <= size <= len(data) - 4 or size % 4:
            raise DataError("the SentencePiece model's character map is damaged")
        self._units = struct.unpack_from(f"<{size // 4}I", data, 4)
        self._targets = data[4 + size :]

    def get(self, source: str) -> str | None:
        """What a text becomes if the map has a rule for exactly it."""
        place = 0
        for byte in source.encode():
            place = self._child(place, byte)
            if place < 0 or self._units[place] & 0x800000FF != byte:
                return None
        if not self._units[place] >> 8 & 1:
            return None
        leaf = self._child(place, 0)
        start = self._units[leaf] & 0x7FFFFFFF if leaf >= 0 else len(self._targets)
        end = self._targets.find(b"\0", start)
        return self._targets[start:end].decode("utf-8", errors="ignore") if end >= 0 else None

    def _child(self, place: int, byte: int) -> int:
        unit = self._units[place]
        child = place ^ ((unit >> 10) << ((unit & 0x200) >> 6)) ^ byte
        return child if child < len(self._units) else -1
