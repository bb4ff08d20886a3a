"""`bloomery curate --what-if`, `--fit-classifier`, `--score-with`: what thresholds would do, and models of quality.

This module does not know how rules are applied or classifiers fitted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bloomery.cli.options import Common, print_json, printable
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.recipe import Recipe
    from bloomery.core.workspace import Workspace
    from bloomery.corpus.what_if import RuleTally, Tally, WhatIf

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
    _rules(answer.rules)
    if set(answer.languages) - {""}:
        _tallies("language", answer.languages)
    if set(answer.sites) - {""}:
        _tallies("site", dict(list(answer.sites.items())[:_SHOWN]))
    for rule in answer.rules:
        for sample in rule.samples:
            if sample["fate"] != "dropped" or not answer.moved:
                excerpt = printable(" ".join(sample["excerpt"].split())[:100])
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


def fit(sources: tuple[str, ...], folder: str, settings: Recipe, common: Common) -> None:
    """Fit a classifier on labelled texts and say how it did on texts it had not seen."""
    from bloomery.corpus import CurateConfig
    from bloomery.corpus.classifier import fit_classifier

    config = settings.table("curate", CurateConfig)
    labelled = list(_labelled(sources, config))
    model = fit_classifier([text for text, _ in labelled], [good for _, good in labelled])
    model.save(folder)
    if common.json:
        print_json({"folder": folder, **model.measured})
        return
    said = model.measured
    print(f"{folder}: of {said['texts']:,} texts, {said['good']:,} good; on texts it was not fitted on:")
    print(f"  area under the curve {said['area_under_curve']:.4f}, accuracy {said['accuracy']:.4f}")
    print(f"  calibration error {said['calibration_error']:.4f} (before: {said['calibration_error_before']:.4f})")
    for row in said["reliability"]:
        share = f"said {row['probability']:.3f}, are good {row['good']:.3f}"
        print(f"  {row['from']:.1f} to {row['to']:.1f}: {row['count']:,} texts, {share}")


def write_scores(sources: tuple[str, ...], config: Any, model: str, label: str, common: Common) -> None:
    """Write the table that `config.filter.scores` names, by a classifier of ours."""
    from dataclasses import replace

    from bloomery.corpus.problems import Problems
    from bloomery.corpus.sources import read_sources
    from bloomery.engine import load
    from bloomery.engine.document_scores import score_documents

    if not config.filter.scores:
        raise ConfigError("--score-with needs a table to write", hint="--scores FILE.jsonl")
    config = replace(config, sources=sources or config.sources)
    loaded = load(model, workspace=common.workspace())
    score_documents(loaded, read_sources(config, Problems()), config.filter.scores, label=label)


def _labelled(sources: tuple[str, ...], config: Any) -> Iterator[tuple[str, bool]]:
    from dataclasses import replace

    from bloomery.corpus.problems import Problems
    from bloomery.corpus.sources import read_sources

    if not sources:
        raise ConfigError("no labelled texts", hint="bloomery curate LABELS.jsonl --fit-classifier FOLDER")
    fields = (*config.metadata_fields, "label")
    for document in read_sources(replace(config, sources=sources, metadata_fields=fields), Problems()):
        label = document.metadata.get("label")
        if label not in (0, 1):
            raise ConfigError(f"{document.source}: the label is {label!r}, not 0 or 1", hint="a field called label")
        yield document.text, bool(label)
