"""Tokenizers of folders without a tokenizer.json: which form their files have, and the same as a tokenizer.json.

Known: vocab.txt (WordPiece); vocab.json and merges.txt, encoder.json and vocab.bpe, bpe_simple_vocab_16e6.txt(.gz)
(byte pairs); tokenizer.model, spiece.model, sentencepiece.bpe.model (SentencePiece); `*.tiktoken` and a
tokenizer.model of Llama 3 (tiktoken). Where files alone do not say what family they belong to,
tokenizer_config.json's "tokenizer_class" or config.json's "model_type" does; a class that is not known is an error.
Plain text stays text in all of them: no piece that spells a special token is ever matched in it.

This module does not know how text is encoded, nor what the forms look like inside.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bloomery.core.errors import DataError
from bloomery.tokenizer import byte_pairs, pieces
from bloomery.tokenizer.byte_pairs import clip_vocab, from_byte_pairs, read_merges, read_vocab, trim_clip_merges
from bloomery.tokenizer.description import MAX_VOCAB_SIZE, added_token, parse_object, text_of
from bloomery.tokenizer.pieces import from_sentencepiece
from bloomery.tokenizer.sentencepiece_file import read_sentencepiece
from bloomery.tokenizer.tiktoken_file import from_tiktoken, looks_like_tiktoken
from bloomery.tokenizer.wordpiece import from_wordpiece

_CLIP_FILES = ("bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt")
_PAIR_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_MODEL_FILES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
_SIDE_FILES = ("added_tokens.json",)
_FILES = ("vocab.txt", *_MODEL_FILES, *(name for pair in _PAIR_FILES for name in pair), *_CLIP_FILES)
_LOOKED_FOR = "tokenizer.json, vocab.txt, vocab.json with merges.txt, tokenizer.model, spiece.model or *.tiktoken"
_MAX_UNPACKED_BYTES = 64 * 1024 * 1024
_CLASSES = {
    **dict.fromkeys(("Bert", "DistilBert", "Electra", "MobileBert"), "wordpiece"),
    **dict.fromkeys(("GPT2", "CodeGen"), "gpt2"),
    **dict.fromkeys(("Roberta", "Bart", "Longformer"), "roberta"),
    "CLIP": "clip",
    "Qwen2": "qwen2",
    "XLMRoberta": "xlm-roberta",
    "T5": "t5",
    "Llama": "llama",
    "Gemma": "gemma",
    **dict.fromkeys(("PreTrained", "TokenizersBackend", "QWen", ""), ""),
}
_MODEL_TYPES = {
    **dict.fromkeys(("bert", "distilbert", "electra", "mobilebert"), "wordpiece"),
    **dict.fromkeys(("gpt2", "codegen", "gpt_neo", "gptj"), "gpt2"),
    **dict.fromkeys(("roberta", "bart", "longformer"), "roberta"),
    **dict.fromkeys(("clip", "clip_text_model"), "clip"),
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"), "qwen2"),
    **dict.fromkeys(("t5", "mt5", "umt5"), "t5"),
    **dict.fromkeys(("llama", "mistral", "mixtral", "phi3"), "llama"),
    **dict.fromkeys(("gemma", "gemma2", "gemma3", "gemma3_text"), "gemma"),
    "xlm-roberta": "xlm-roberta",
}
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def published_names(folder: Path) -> list[str]:
    """The names of the folder's files that describe a tokenizer in a form other than tokenizer.json."""
    try:
        ranks = sorted(path.name for path in folder.glob("*.tiktoken"))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror or error}") from error
    ranks += [f"{name}.json" for name in ranks if (folder / f"{name}.json").is_file()]
    return [*ranks, *(name for name in (*_FILES, *_SIDE_FILES) if (folder / name).is_file())]


def convert(files: Mapping[str, bytes], source: str) -> dict[str, bytes]:
    """tokenizer.json and tokenizer_config.json of a folder's files, given by name. DataError if they make no sense."""
    sides = {
        name: parse_object(files[name], f"{source}/{name}") if name in files else {}
        for name in ("special_tokens_map.json", "tokenizer_config.json", "config.json", "added_tokens.json")
    }
    settings = {**sides["special_tokens_map.json"], **sides["tokenizer_config.json"]}
    family = _family(settings, sides["config.json"], source)
    described, config = _converted(files, family, settings, source)
    config = {**config, **{name: value for name, value in settings.items() if value is not None or name in _NAMED}}
    try:
        _add_tokens(described, config, settings, sides["added_tokens.json"])
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{source}: the added tokens of its JSON files make no sense: {error}") from error
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    written = {"tokenizer.json": described, "tokenizer_config.json": config}
    return {name: (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8") for name, value in written.items()}


def _family(settings: Mapping[str, Any], model: Mapping[str, Any], source: str) -> str:
    """The family that the JSON files name, or "" if they name none; an unknown model_type is its own family."""
    name = settings.get("tokenizer_class") or model.get("tokenizer_class")
    if isinstance(name, str):
        short = name.removesuffix("Fast").removesuffix("Tokenizer")
        if short not in _CLASSES:
            hint = "save it with transformers' AutoTokenizer.from_pretrained(...).save_pretrained"
            raise DataError(f"{source} is of class {name}, which cannot be read without a tokenizer.json", hint=hint)
        if _CLASSES[short]:
            return _CLASSES[short]
    kind = model.get("model_type")
    return _MODEL_TYPES.get(kind, kind) if isinstance(kind, str) else ""


def _converted(
    files: Mapping[str, bytes], family: str, settings: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    ranks = [name for name in files if name.endswith(".tiktoken")]
    if len(ranks) > 1:
        raise DataError(f"{source} holds several rank files: {', '.join(ranks)}", hint="keep one")
    models = [name for name in _MODEL_FILES if name in files]
    if "tokenizer.model" in files and looks_like_tiktoken(files["tokenizer.model"]):
        ranks = ["tokenizer.model"]
    if ranks:
        return from_tiktoken(files[ranks[0]], f"{source}/{ranks[0]}", files.get(f"{ranks[0]}.json"))
    if models:
        where = f"{source}/{models[0]}"
        if models[0] == "sentencepiece.bpe.model" and not family:
            hint = "put its config.json or tokenizer_config.json beside it"
            raise DataError(f"{where} does not say to which model it belongs", hint=hint)
        _must_be(family, ("", *pieces.FAMILIES), where)
        file = read_sentencepiece(files[models[0]], where)
        return from_sentencepiece(file, family or "sentencepiece", settings, where)
    if "vocab.txt" in files:
        _must_be(family, ("", "wordpiece"), f"{source}/vocab.txt")
        return from_wordpiece(files["vocab.txt"], settings, f"{source}/vocab.txt")
    return _byte_pairs(files, family, settings, source)


def _byte_pairs(
    files: Mapping[str, bytes], family: str, settings: Mapping[str, Any], source: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    for names in _PAIR_FILES:
        if all(name in files for name in names):
            where = f"{source}/{' and '.join(names)}"
            vocab = read_vocab(files[names[0]], f"{source}/{names[0]}")
            merges = read_merges(files[names[1]], f"{source}/{names[1]}")
            _must_be(family, ("", *byte_pairs.FAMILIES), where)
            return from_byte_pairs(vocab, merges, family or _family_of(vocab), settings, where)
    for name in _CLIP_FILES:
        if name in files:
            _must_be(family, ("", "clip"), f"{source}/{name}")
            data = _unzipped(files[name], f"{source}/{name}") if name.endswith(".gz") else files[name]
            merges = trim_clip_merges(read_merges(data, f"{source}/{name}"))
            return from_byte_pairs(clip_vocab(merges), merges, "clip", settings, f"{source}/{name}")
    raise DataError(
        f"{source} holds no tokenizer.json, nor another published form of a tokenizer",
        hint=f"looked for {_LOOKED_FOR}; transformers' AutoTokenizer.from_pretrained(...).save_pretrained writes one",
    )


def _must_be(family: str, allowed: tuple[str, ...], where: str) -> None:
    if family not in allowed:
        hint = "save it with transformers' AutoTokenizer.from_pretrained(...).save_pretrained"
        raise DataError(f"{where} cannot be read as a tokenizer of {family!r}, which its JSON files name", hint=hint)


def _family_of(vocab: Mapping[str, int]) -> str:
    """The family of byte pairs that a vocabulary's own special tokens show."""
    if "<|startoftext|>" in vocab and any(token.endswith("</w>") for token in vocab):
        return "clip"
    return "roberta" if {"<s>", "</s>", "<mask>"} <= vocab.keys() else "gpt2"


def _unzipped(data: bytes, where: str) -> bytes:
    """The content of a gzip file, of bounded size."""
    try:
        reader = zlib.decompressobj(wbits=31)
        content = reader.decompress(data, _MAX_UNPACKED_BYTES)
    except zlib.error as error:
        raise DataError(f"{where} is damaged: {error}") from error
    if not reader.eof:
        raise DataError(f"{where} is cut off, or larger than {_MAX_UNPACKED_BYTES:,} bytes when unpacked")
    return content


def _add_tokens(
    described: dict[str, Any], config: Mapping[str, Any], settings: Mapping[str, Any], added: Mapping[str, Any]
) -> None:
    """Add the tokens that the folder's JSON files name beyond the vocabulary, as `transformers` does."""
    vocab = described["model"]["vocab"]
    ids = {text: index for index, (text, _) in enumerate(vocab)} if isinstance(vocab, list) else vocab
    known = {one["content"]: one for one in described["added_tokens"]}
    wanted: dict[str, tuple[int | None, Mapping[str, Any], bool]] = {}
    for index, token in settings.get("added_tokens_decoder", {}).items():
        wanted[text_of(token)] = (int(index), token, token.get("special") is True)
    for text, index in sorted(added.items(), key=lambda item: item[1]):
        wanted.setdefault(text, (index, {}, False))
    extra = settings.get("additional_special_tokens") or []
    for token in (*(config.get(name) for name in _NAMED), *extra):
        if text := text_of(token):
            index, flags, _ = wanted.get(text, (None, {}, True))
            wanted[text] = (index, token if isinstance(token, Mapping) and not flags else flags, True)
    taken = set(ids.values())
    top = max(taken, default=-1)
    for text, (index, flags, special) in wanted.items():
        place = ids.get(text)
        if place is None:
            place = top + 1 if index is None else index
            if not text or not 0 <= place < MAX_VOCAB_SIZE or place in taken:
                raise ValueError(f"{text!r} has id {place}")
            if isinstance(vocab, list):
                if place != len(vocab):
                    raise ValueError(f"{text!r} has id {place}, which leaves a gap")
                vocab.append((text, 0.0))
            ids[text], top = place, max(top, place)
            taken.add(place)
        elif index is not None and index != place:
            raise ValueError(f"{text!r} has id {index}, but the vocabulary says {place}")
        names = ("single_word", "lstrip", "rstrip", "normalized")
        given = {name: flags.get(name) is True for name in names if name in flags}
        known[text] = {**known.get(text, added_token(text, place)), **given, "special": special}
    described["added_tokens"] = sorted(known.values(), key=lambda one: one["id"])
