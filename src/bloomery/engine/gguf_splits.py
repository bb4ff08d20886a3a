"""GGUF's names of how byte-level BPE splits a text: llama.cpp knows the patterns by name, a tokenizer.json spells them.

The names and what stands behind them are those of llama.cpp's llama-vocab.cpp, the patterns those of the published
tokenizers that it names them after: where the two differ (combining marks under "gpt-4o" and "tekken", letters that
NFC composes under "qwen2"), texts are split as the model learnt them. This module does not know vocabularies or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import ConfigError, nearest
from bloomery.tokenizer.description import byte_level, split_then_bytes

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_THREE_DIGITS = _CONTRACTIONS + r"\p{N}{1,3}" + _REST
_ONE_DIGIT = (_CONTRACTIONS + r"\p{N}" + _REST, _CONTRACTIONS + r"\p{N}{1,1}" + _REST)
_BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORDS = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{{short}}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{{short}}|\p{{N}}{{digits}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _words(short: str, digits: str) -> str:
    return _WORDS.replace("{short}", short).replace("{digits}", digits)


@dataclass(frozen=True, kw_only=True)
class Split:
    """What a name stands for. `pre_tokenizer` is that of a tokenizer.json."""

    pre_tokenizer: Mapping[str, Any]
    normalizer: Mapping[str, Any] | None = None
    """What the published tokenizers of this name do before, though llama.cpp does not."""
    ignore_merges: bool = False
    """A whole piece that is a token is taken without merging."""
    adds_bos: bool = False
    """Where a file does not say it."""


_DIGITS = {"type": "Digits", "individual_digits": True}
_GPT2 = Split(pre_tokenizer=byte_level())
_LLAMA3 = Split(pre_tokenizer=split_then_bytes(_THREE_DIGITS), ignore_merges=True, adds_bos=True)
_GPT4 = Split(pre_tokenizer=split_then_bytes(_THREE_DIGITS))
_QWEN = Split(pre_tokenizer=split_then_bytes(_ONE_DIGIT[0]), normalizer={"type": "NFC"})
_SINGLE = Split(pre_tokenizer={"type": "Sequence", "pretokenizers": [_DIGITS, byte_level()]})
_SHORT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

SPLITS: dict[str, Split] = {
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "gigachat", "mellum", "exaone4"), _GPT2),
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "midm-2.0", "lfm2", "pixtral"), _LLAMA3
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), _GPT4),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), _QWEN),
    **dict.fromkeys(("stablelm2", "hunyuan", "solar-open"), Split(pre_tokenizer=_QWEN.pre_tokenizer)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _SINGLE),
    **dict.fromkeys(("bloom", "gpt3-finnish", "poro-chat"), Split(pre_tokenizer=split_then_bytes(_BLOOM))),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2"), Split(pre_tokenizer=split_then_bytes(_words(_SHORT, "{1,3}")))),
    "pixtral": _LLAMA3,
    "tekken": Split(pre_tokenizer=split_then_bytes(_words("", "")), ignore_merges=True, adds_bos=True),
}
"""By llama.cpp's `tokenizer.ggml.pre`."""


def split_named(name: str) -> Split:
    """What llama.cpp means by a name; ConfigError for one that is not known here."""
    split = SPLITS.get(name)
    if split is None:
        known = ", ".join(sorted(SPLITS)) if name in ("", "default") else nearest(name, SPLITS)
        raise ConfigError(f"the file's tokenizer splits texts by {name or 'no'!r} name, which is not known", hint=known)
    return split


def split_name(described: Mapping[str, Any]) -> str:
    """llama.cpp's name of a byte-level BPE's split pattern, from its tokenizer.json; ConfigError if it has none."""
    normalizer = (described.get("normalizer") or {}).get("type")
    outer = described.get("pre_tokenizer") or {}
    steps = outer.get("pretokenizers", [outer])
    patterns = [(step.get("pattern") or {}).get("Regex") for step in steps if step.get("type") == "Split"]
    digits = any(step.get("type") == "Digits" and step.get("individual_digits") for step in steps)
    last = steps[-1] if steps else {}
    # NFC is what most text is in, and nothing in llama.cpp does it.
    if last.get("type") == "ByteLevel" and not last.get("add_prefix_space") and normalizer in (None, "NFC"):
        if len(steps) == 1 and last.get("use_regex", True):
            return "gpt-2"
        if len(steps) == 2 and digits and last.get("use_regex", True):
            return "smollm"
        if len(steps) == 2 and patterns == [_THREE_DIGITS]:
            # The same pattern: by the first name whole words of the vocabulary are taken without merging.
            return "llama-bpe" if described.get("model", {}).get("ignore_merges") else "dbrx"
        if len(steps) == 2 and patterns and patterns[0] in _ONE_DIGIT:
            return "qwen2"
        if len(steps) == 2 and patterns == [_BLOOM]:
            return "bloom"
    raise ConfigError("llama.cpp has no name for this tokenizer's split pattern", hint="export a folder instead")
