"""`bloomery curate --what-if`: what a corpus would hold with other thresholds. This module does not know rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bloomery.cli.options import Common, print_json, shown
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.workspace import Workspace
    from bloomery.corpus.what_if import ParagraphTally, RuleTally, Tally, WhatIf

_EXCERPTS_A_LANGUAGE = 200
_SHOWN = 12
_RULES = "curate.filter.rules."


def show_what_if(name: str, overrides: Sequence[str], tokenizer: str, common: Common) -> None:
    """Print what the corpus would hold with these `--set rules.NAME=VALUE`."""
    from bloomery.core.config import parse_scalar
    from bloomery.corpus.what_if import what_if

    moved = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not (equals and key.startswith(_RULES)):
            raise ConfigError(f"--what-if moves thresholds, not {key}", hint="--set rules.NAME=VALUE, or off")
        moved[key.removeprefix(_RULES).strip()] = parse_scalar(text.strip())
    workspace = common.workspace()
    corpus = workspace.find(name, kind="corpus")
    ratios = bytes_per_token(corpus, tokenizer, workspace) if tokenizer else None
    answer = what_if(corpus, moved, bytes_per_token=ratios)
    if common.json:
        print_json(answer.to_dict())
        return
    _print(answer)


def bytes_per_token(corpus: Artifact, tokenizer: str, workspace: Workspace) -> dict[str, float]:
    """UTF-8 bytes a token by language, and "" for all, of the excerpts kept with the scores."""
    from bloomery.corpus.scores import read_scores
    from bloomery.tokenizer import Tokenizer

    codec = Tokenizer.load(workspace.find(tokenizer, kind="tokenizer").path)
    texts: dict[str, list[str]] = {}
    for documents, _ in read_scores(corpus):
        rows = documents.select(["language", "excerpt"]).to_pylist()
        for row in rows:
            kept = texts.setdefault(row["language"], [])
            if len(kept) < _EXCERPTS_A_LANGUAGE:
                kept.append(row["excerpt"])
    ratios, size, count = {}, 0, 0
    for language, excerpts in texts.items():
        read = sum(len(text.encode()) for text in excerpts)
        tokens = sum(len(codec.encode(text)) for text in excerpts)
        ratios[language] = read / max(1, tokens)
        size, count = size + read, count + tokens
    return {**ratios, "": size / max(1, count)}


def _print(answer: WhatIf) -> None:
    moved = ", ".join(f"{name} = {value}" for name, value in answer.moved.items()) or "nothing moved"
    print(f"{answer.corpus}, profile {answer.profile or '(none)'}: {moved}")
    print(f"documents scored: {answer.documents:,}; kept, before duplicates and held-out overlaps are taken out:")
    _tallies("", {"all": [answer.now, answer.then]})
    if answer.rules:
        _rules(answer.rules)
    if set(answer.languages) - {""}:
        _tallies("language", answer.languages)
    if answer.paragraph_languages:
        _paragraphs(answer.paragraph_languages)
    if set(answer.sites) - {""}:
        _tallies("site", dict(list(answer.sites.items())[:_SHOWN]))
    for rule in answer.rules:
        for sample in rule.samples:
            if sample["fate"] != "dropped" or not answer.moved:
                excerpt = shown(" ".join(sample["excerpt"].split())[:100])
                score = "none" if sample["score"] is None else f"{sample['score']:.4g}"
                print(f"  {rule.rule}, {sample['fate']}, {score}: {sample['id']} {excerpt}")


def _table(first: str, others: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _tallies(title: str, rows: Mapping[str, Sequence[Tally]]) -> None:
    from rich.console import Console

    table = _table(title, ["documents now", "then", "tokens now (estimated)", "then"])
    for name, (now, then) in rows.items():
        cells = [f"{now.documents:,}", f"{then.documents:,}", f"{now.tokens:,.0f}", f"{then.tokens:,.0f}"]
        table.add_row(name or "unknown", *cells)
    Console().print(table)


def _paragraphs(rows: Mapping[str, Sequence[ParagraphTally]]) -> None:
    from rich.console import Console

    table = _table("language of paragraphs", ["documents now", "then", "characters now", "then"])
    for name, (now, then) in rows.items():
        table.add_row(
            name, *(f"{count:,}" for count in (now.documents, then.documents, now.characters, then.characters))
        )
    Console().print(table)


def _rules(rules: Sequence[RuleTally]) -> None:
    from rich.console import Console

    table = _table("rule", ["keeps", "then", "first", "then", "alone", "then"])
    idle = 0
    for rule in rules:
        then = rule.then if rule.then != rule.now else ""
        if not (then or any(rule.any) or any(rule.lines)):
            idle += 1
            continue
        counts = [f"{count:,}" for pair in (rule.first, rule.only) for count in pair]
        table.add_row(rule.rule, rule.now, then, *counts)
    print("documents that a rule is the first to drop, and that it alone drops:")
    Console().print(table)
    taken = [f"{rule.rule} {rule.lines[0]:,}, then {rule.lines[1]:,}" for rule in rules if any(rule.lines)]
    if taken:
        print(f"lines taken: {'; '.join(taken)}")
    if idle:
        print(f"{idle} more rules drop nothing; --json has them")
