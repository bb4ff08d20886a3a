"""Choices: questions with given answers, of which a model takes the one that it finds most probable.

A file of JSON lines, {"query", "choices", "gold"} each (ARC, PIQA, COPA as they are widely kept), or {"sentence_good",
"sentence_bad"} (BLiMP; Warstadt et al., arXiv 1912.00582). An answer's score is the sum of the log-probabilities of its
tokens after the query; `accuracy` goes by the sum, `accuracy_by_bytes` by the sum over the answer's UTF-8 bytes, which
lm-evaluation-harness calls acc and acc_norm. This module does not know where files come from.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.errors import DataError
from bloomery.core.wilson import wilson
from bloomery.engine import LanguageModel
from bloomery.evaluate.statistics import binary_difference

MAX_ITEMS = 1000
"""Of a file, from its beginning; more changes little but how long it takes."""
_MAX_LINE, _MAX_CHOICES = 1 << 20, 64


@dataclass(frozen=True)
class Item:
    """A question, its answers, and which is right."""

    query: str
    choices: tuple[str, ...]
    gold: int


@dataclass(frozen=True)
class ItemScore:
    """The sum of log-probabilities of each answer, in nats, and whether the best is right, by sum and by bytes."""

    nats: tuple[float, ...]
    right: bool
    right_by_bytes: bool


def read_items(path: Path, limit: int = MAX_ITEMS) -> list[Item]:
    """The first items of a file of JSON lines, .xz or not; DataError, with the line, for one that is none."""
    items: list[Item] = []
    try:
        with lzma.open(path, "rt", encoding="utf-8") if path.suffix == ".xz" else path.open(encoding="utf-8") as file:
            for number, line in enumerate(_lines(file), 1):
                if len(items) == limit:
                    break
                if line.strip():
                    items.append(_item(line, f"{path}:{number}"))
    except (OSError, UnicodeDecodeError, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{path} cannot be read as lines of JSON: {error}") from error
    if not items:
        raise DataError(f"{path} has no questions", hint='{"query": ..., "choices": [...], "gold": 0} on each line')
    return items


def _lines(file: Any) -> Iterator[str]:
    while line := file.readline(_MAX_LINE):
        if len(line) >= _MAX_LINE:
            raise OSError(f"a line is longer than {_MAX_LINE:,} characters")
        yield line


def _item(line: str, where: str) -> Item:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}") from None
    if isinstance(found, dict) and "sentence_good" in found:
        found = {"query": "", "choices": [found["sentence_good"], found.get("sentence_bad")], "gold": 0}
    if not isinstance(found, dict):
        raise DataError(f"{where} should hold an object")
    query, choices, gold = found.get("query"), found.get("choices"), found.get("gold")
    listed: list[Any] = choices if isinstance(choices, list) else []
    good = 2 <= len(listed) <= _MAX_CHOICES and all(isinstance(one, str) and one for one in listed)
    if not good or not isinstance(query, str):
        raise DataError(f"{where} is no question", hint='it has "query", two "choices" or more, and "gold"')
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(listed):
        raise DataError(f"{where}: gold is {gold!r:.40}, not the number of a choice")
    return Item(query, tuple(listed), gold)


def score_items(model: LanguageModel, items: Sequence[Item]) -> list[ItemScore]:
    """Each item's answers, in one batch an item."""
    return [_score(model, item) for item in items]


def _score(model: LanguageModel, item: Item) -> ItemScore:
    asked, firsts = [], []
    for choice in item.choices:
        ids, first = _ids(model, item.query, choice)
        firsts.append(first)
        asked.append(model.request(ids, [{"max_new_tokens": 0, "prompt_logprobs": 0}], shares=False))
    nats = [0.0] * len(asked)
    for place, delta in model.engine.run_all(asked):
        if delta.result is not None and delta.result.prompt_logprobs is not None:
            told = delta.result.prompt_logprobs[firsts[place] :]
            nats[place] = sum(one.logprob for one in told if one is not None)
    by_bytes = [one / max(1, len(choice.encode())) for one, choice in zip(nats, item.choices, strict=True)]
    best, best_by_bytes = nats.index(max(nats)), by_bytes.index(max(by_bytes))
    return ItemScore(tuple(nats), best == item.gold, best_by_bytes == item.gold)


def _ids(model: LanguageModel, query: str, choice: str) -> tuple[list[int], int]:
    """The tokens of question and answer, and the first of the answer. A text that is too long loses its beginning."""
    tokenizer = model.tokenizer
    start = tokenizer.encode("", add_bos=tokenizer.adds_bos) or [tokenizer.separator_id]
    gap = " " if query and not query[-1].isspace() and not choice[0].isspace() else ""
    whole, before = tokenizer.encode(query + gap + choice), tokenizer.encode(query)
    first = min(len(before), len(whole) - 1)
    ids = start + whole
    most = min(model.context_length, model.engine.capacity)
    cut = max(0, len(ids) - most)
    return ids[cut:], max(1, len(start) + first - cut)


def accuracy(right: Sequence[bool]) -> dict[str, Any]:
    """The share that is right, and Wilson's 95% interval of it (Wilson, 1927)."""
    low, high = wilson(sum(right), len(right))
    return {"accuracy": sum(right) / len(right), "low": low, "high": high}


def compare_choices(before: LanguageModel, after: LanguageModel, items: Sequence[Item]) -> dict[str, Any]:
    """Plain data: each model's accuracies with intervals, `change` with the 95% interval of the paired difference (the
    items are the same, so that most of their spread cancels; Bonett and Price), and the share of items in which both
    take the same."""
    one, other = score_items(before, items), score_items(after, items)
    report: dict[str, Any] = {"items": len(items)}
    for name, scores in (("before", one), ("after", other)):
        report[name] = {
            **accuracy([score.right for score in scores]),
            "by_bytes": accuracy([score.right_by_bytes for score in scores]),
        }
    change = binary_difference([score.right for score in other], [score.right for score in one])
    report["change"] = {"accuracy": change.value, "low": change.low, "high": change.high}
    same = [a.nats.index(max(a.nats)) == b.nats.index(max(b.nats)) for a, b in zip(one, other, strict=True)]
    report["same_choice"] = sum(same) / len(same)
    return report
