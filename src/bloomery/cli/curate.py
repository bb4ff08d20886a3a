"""`bloomery curate`: documents in, a corpus out. This module does not know how documents are read."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal, get_type_hints

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, RecipeFile, read_recipe, show_artifact
from bloomery.corpus.config import CurateConfig

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.recipe import Recipe

_MAX_WORKERS = 1024
Profile = Annotated[
    str, Parameter(help="Rules to hold documents to: c4-tfds, c4-paper, gopher, fineweb, mc4, code, bio or webtext.")
]
_SHORT = ("dedup", "mix", "personal", "filter")  # tables of [curate] that --set takes without "curate." before them


def _set_help() -> str:
    """What --set takes here, from the configs."""
    hints = get_type_hints(CurateConfig)
    keys = {table: ", ".join(field.name for field in fields(hints[table])) for table in _SHORT}
    listed = "; ".join(f"{table}.KEY: {names}" for table, names in keys.items())
    return f"Override a key: KEY=VALUE. May be repeated. rules.RULE: a threshold, or off; {listed}; curate.KEY and \
tables of other stages. `bloomery run --keys curate` says what each does."


Settings = Annotated[list[str] | None, Parameter(name="--set", negative=(), help=_set_help())]
Engine = Annotated[Literal["local", "ray"] | None, Parameter(help="Local processes, or Ray Data.")]


def curate(
    *sources: Annotated[
        str, Parameter(help="Files, folders, globs, code:FOLDER, hf:FOLDER or python-docs [default: the recipe's].")
    ],
    pictures: Annotated[
        bool, Parameter(negative=(), help="A corpus of pictures with captions, of the recipe's [pictures].")
    ] = False,
    workers: Annotated[
        int, Parameter(help="Processes that read [default: one for each processor]; the corpus is the same.")
    ] = 0,
    engine: Engine = None,
    profile: Profile = "",
    classifier: Annotated[str, Parameter(help="A folder with a classifier of quality, as one more rule.")] = "",
    fit_classifier: Annotated[
        str, Parameter(help="Fit a classifier on the sources (JSONL with text and label 0 or 1) into this folder.")
    ] = "",
    scores: Annotated[str, Parameter(help="A table of documents (id, score) that is one more rule.")] = "",
    score_with: Annotated[
        str, Parameter(help="First write that table: the probability of a label (--label) by this classifier of ours.")
    ] = "",
    label: Annotated[str, Parameter(help="With --score-with: the label that is good [default: the last].")] = "",
    calibrate: Annotated[
        str,
        Parameter(help="With --score-with: texts with label 0 or 1 that it did not learn from, to calibrate it by."),
    ] = "",
    what_if: Annotated[
        str, Parameter(help="What this corpus would hold with other thresholds (--set rules.NAME=...); reads no text.")
    ] = "",
    tokenizer: Annotated[str, Parameter(help="With --what-if: estimate tokens by this tokenizer, not by bytes.")] = "",
    recipe: RecipeFile = None,
    set_: Settings = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Documents in, a corpus out: filtered, deduplicated, split, decontaminated, with a reason for every drop."""
    common = common or Common()
    from bloomery.core.errors import ConfigError

    set_ = filter_overrides(set_ or [], profile=profile, classifier=classifier, scores=scores)
    from bloomery.cli import quality
    from bloomery.cli.what_if import show_what_if
    from bloomery.corpus import curate as curate_stage

    if what_if:
        return show_what_if(what_if, set_, tokenizer, common)
    # Sources that are given come before what --set says of them (mix.weights).
    given = [f"curate.sources={_toml(sources)}"] if any(sources) and not pictures else []
    settings = read_recipe(recipe, given + set_ + ([f"curate.engine={engine}"] if engine else []))
    if fit_classifier:
        return quality.fit(sources, fit_classifier, settings, common)
    if pictures:
        return _curate_pictures(sources, settings, fresh, common)
    config = settings.table("curate", CurateConfig)
    if not 0 <= workers <= _MAX_WORKERS:
        raise ConfigError(f"workers should be from 0 to {_MAX_WORKERS}")
    if score_with or calibrate:
        quality.write_scores(sources, config, score_with, label, calibrate, common)
    where = common.workspace()
    made = curate_stage(sources or config.sources, config=config, workspace=where, fresh=fresh, workers=workers)
    show_artifact(made, common, _said(made))


def _toml(names: tuple[str, ...]) -> str:
    """A list of strings as TOML, which knows JSON's escapes and wants one more of them."""
    return json.dumps(names, ensure_ascii=False).replace("\x7f", "\\u007f")


def _said(made: Artifact) -> list[str]:
    """A corpus in a few lines."""
    metrics = made.metrics
    lines = [
        f"{split}: {count:,} documents, {metrics['text_bytes'][split]:,} bytes"
        for split, count in metrics["documents"].items()
    ]
    lines += [f"taken out, {reason}: {count:,}" for reason, count in metrics["dropped"].items()]
    lines += _said_of_dedup(made)
    if metrics.get("problems"):
        lines.append(f"problems in the sources: {metrics['problems']:,}, see {made.path / 'report.json'}")
    return lines


def _said_of_dedup(made: Artifact) -> list[str]:
    """What deduplication found, where it was asked to look."""
    if "dedup" not in made.config:
        return []
    told = json.loads(made.file("report.json").read_text(encoding="utf-8"))["dedup"]
    lines = []
    for kind in ("paragraphs", "lines", "substrings"):
        if kind in told:
            cut = told[kind]
            lines.append(f"cut, repeated {kind}: {cut['pieces']:,} ({cut['characters']:,} characters)")
    if near := told.get("near"):
        lines.append(f"near duplicates: {near['clusters']:,} clusters, the largest of {near['largest']:,} documents")
        least = near["would_drop_at_least"]
        alike = ", ".join(f"{least[s]:,} at {s} or more" for s in ("0.80", "0.90"))
        lines.append(f"similarity to the one kept (estimated): {alike}, of {near['dropped']:,}")
    if evaluation := told.get("evaluation"):
        texts = sum(file["texts"] for file in evaluation["files"].values())
        lines.append(f"compared with {texts:,} evaluation texts of {len(evaluation['files']):,} files")
    return lines


def filter_overrides(overrides: list[str], *, profile: str = "", classifier: str = "", scores: str = "") -> list[str]:
    """`--set rules.x=` and `--set personal.x=` as the keys of `[curate]` that they stand for; the flags come last."""
    long = {"rules.": "curate.filter.rules."}
    long |= {f"{table}.": f"curate.{table}." for table in _SHORT}
    found = []
    for override in overrides:
        short = next((prefix for prefix in long if override.strip().startswith(prefix)), "")
        found.append(long[short] + override.strip().removeprefix(short) if short else override)
    flags = {"profile": profile, "classifier": classifier, "scores": scores}
    return found + [f"curate.filter.{name}={value}" for name, value in flags.items() if value]


def _curate_pictures(sources: tuple[str, ...], settings: Recipe, fresh: bool, common: Common) -> None:
    from bloomery.corpus import PicturesConfig, curate_pictures

    config = settings.table("pictures", PicturesConfig)
    made = curate_pictures(sources or config.sources, config=config, workspace=common.workspace(), fresh=fresh)
    metrics = made.metrics
    lines = [
        f"{split}: {count:,} pictures, {metrics['bytes'][split]:,} bytes, {metrics['captions'][split]:,} captions"
        for split, count in metrics["pictures"].items()
    ]
    lines += [f"taken out, {reason}: {count:,}" for reason, count in metrics["dropped"].items()]
    if metrics["problems"]:
        lines.append(f"problems in the sources: {metrics['problems']:,}, see {made.path / 'report.json'}")
    show_artifact(made, common, lines)
