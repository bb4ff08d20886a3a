"""BERT's vocab.txt as tokenizer.json: WordPiece (Wu et al., 2016, arXiv:1609.08144; Devlin et al., 2019).

One token a line, its id the line's number. `tokenizer_config.json` says whether text is lower-cased.
This module does not know other forms, nor where files lie.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import DataError
from bloomery.tokenizer.description import MAX_VOCAB_SIZE, added_token, decode_text, described, template, text_of

_TOKENS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def from_wordpiece(data: bytes, settings: Mapping[str, Any], where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer.json, tokenizer_config.json) of a vocab.txt; `settings` are the folder's own tokenizer_config."""
    lines = io.StringIO(decode_text(data, where), newline=None)
    vocab = {line.rstrip("\n"): index for index, line in enumerate(lines)}
    if not 0 < len(vocab) <= MAX_VOCAB_SIZE:
        raise DataError(f"{where} holds {len(vocab):,} tokens")
    if settings.get("do_basic_tokenize", True) is not True or settings.get("never_split"):
        raise DataError(f"{where}: do_basic_tokenize and never_split of its tokenizer_config.json are not supported")
    tokens = {name: text_of(settings.get(name)) or text for name, text in _TOKENS.items()}
    for name in ("unk_token", "sep_token", "cls_token"):
        if tokens[name] not in vocab:
            raise DataError(f"{where} does not hold the {name} {tokens[name]!r}", hint="is it a BERT vocabulary?")
    lower = settings.get("do_lower_case", True) is not False
    cls, sep = (tokens["cls_token"], 0), (tokens["sep_token"], 0)
    special = sorted({text for text in tokens.values() if text in vocab}, key=lambda text: vocab[text])
    model = {
        "type": "WordPiece",
        "unk_token": tokens["unk_token"],
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
        "vocab": vocab,
    }
    return (
        described(
            model,
            added_tokens=[added_token(text, vocab[text]) for text in special],
            normalizer={
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": settings.get("tokenize_chinese_chars", True) is not False,
                "strip_accents": settings.get("strip_accents"),
                "lowercase": lower,
            },
            pre_tokenizer={"type": "BertPreTokenizer"},
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
            post_processor=template([cls, ("A", 0), sep], [cls, ("A", 0), sep, ("B", 1), (sep[0], 1)], vocab),
        ),
        {name: text for name, text in tokens.items() if text in vocab} | {"do_lower_case": lower},
    )
