"""`bloomery audit`: what tokenizers cost whom. This module does not know how anything is counted."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, Overrides, RecipeFile, artifact_data, print_json, read_recipe, shown
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact

_PICTURES = (".svg", ".png", ".pdf")
_UNKNOWN_SHOWN = 0.01
_WIDTH = 200
Named = list[str] | None


def audit(
    *tokenizers: Annotated[
        str,
        Parameter(help="Artifacts, folders, tokenizer.json, *.tiktoken, *.model or vocab.txt [default: the latest]."),
    ],
    texts: Annotated[
        Path,
        Parameter(help="Parallel text: a folder or tar with a file a language, or a TSV, CSV or JSONL of columns."),
    ],
    partition: Annotated[str, Parameter(help="Sentences of this partition only, such as dev or val.")] = "",
    reference: Annotated[str, Parameter(help="The language to compare with [default: English].")] = "",
    languages: Annotated[str, Parameter(help="These languages only, with commas between them.")] = "",
    text_field: Annotated[str, Parameter(help="The column of the text [default: utt, text or sentence].")] = "",
    price: Annotated[
        Named, Parameter(negative=(), help="Price of a million tokens, of all or as NAME=PRICE. May be repeated.")
    ] = None,
    tokens_per_second: Annotated[
        Named, Parameter(negative=(), help="Speed of the model, of all or as NAME=SPEED. May be repeated.")
    ] = None,
    plot: Annotated[Path | None, Parameter(help="Draw the premiums into this SVG, PNG or PDF.")] = None,
    full: Annotated[bool, Parameter(negative=(), help="Every column of every tokenizer.")] = False,
    recipe: RecipeFile = None,
    set_: Overrides = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """What tokenizers cost whom: tokens a sentence by language and script, and the premium over English."""
    common = common or Common()
    from dataclasses import replace

    from bloomery.tokenizer.audit import AuditConfig, read_audit
    from bloomery.tokenizer.audit import audit as audit_stage

    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise ConfigError(f"cannot draw into {plot}", hint=f"a name that ends in {', '.join(_PICTURES)}")
    config = read_recipe(recipe, set_).table("audit", AuditConfig)
    given = {"partition": partition, "reference": reference, "text_field": text_field}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value}
    if languages:
        changes["languages"] = tuple(one.strip() for one in languages.split(",") if one.strip())
    for name, values in (("price", price), ("tokens_per_second", tokens_per_second)):
        if values:
            changes[name] = {**getattr(config, name), **_by_name(name, values)}
    workspace = common.workspace()
    named: Sequence[Any] = tokenizers or (workspace.latest("tokenizer"),)
    made = audit_stage(named, texts, config=replace(config, **changes), workspace=workspace, fresh=fresh)
    data = read_audit(made)
    if plot is not None:
        from bloomery.cli.audit_plot import write_premiums

        write_premiums(data, plot)
    if common.json:
        print_json({**artifact_data(made), "audit": data})
        return
    _show(data, made, full=full or len(data["tokenizers"]) == 1)
    if plot is not None:
        print(f"drawn: {plot}", file=sys.stderr)


def _by_name(what: str, values: Sequence[str]) -> dict[str, float]:
    """NAME=NUMBER or NUMBER, several of them."""
    found = {}
    for value in values:
        name, _, number = value.rpartition("=")
        try:
            found[name.strip()] = float(number)
        except ValueError:
            option = f"--{what.replace('_', '-')}"
            raise ConfigError(f"{option} {value} is no number", hint=f"{option} 2.5, or {option} NAME=2.5") from None
    return found


def _show(data: Mapping[str, Any], made: Artifact, *, full: bool) -> None:
    from rich.console import Console

    # Tables have many columns: what is not a terminal takes any width.
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    tokenizers = data["tokenizers"]
    print(f"{made.name}  {made.path}")
    if len(tokenizers) > 1:
        console.print(_compared(data))
    for one in tokenizers if full else ():
        console.print(_lengths(one, data["reference"]))
        console.print(_coverage(one))
    for one in tokenizers:
        console.print(_by_script(one))
    for line in _notes(data):
        print(line)


def _table(title: str, left: Sequence[str], right: Sequence[str]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _compared(data: Mapping[str, Any]) -> Any:
    """Median and premium of every tokenizer side by side, in the order of the first one's premiums."""
    tokenizers = data["tokenizers"]
    names = [f"{one['name']} {what}" for one in tokenizers for what in ("median", "premium")]
    table = _table("median tokens a sentence, and premium", ("language", "script"), names)
    rows = [{row["language"]: row for row in one["languages"]} for one in tokenizers]
    for language, first in rows[0].items():
        cells = []
        for one in rows:
            row = one[language]
            cells += [f"{row['median_tokens']:g}", _premium(row)]
        table.add_row(shown(language), first["script"], *cells)
    return table


def _lengths(one: Mapping[str, Any], reference: str) -> Any:
    columns = ["sentences", "median", "mean", "p90", "per byte", "per character", "premium", "95%"]
    columns += ["price of 1M"] if one["price_per_million_tokens"] else []
    columns += ["s a sentence"] if one["tokens_per_second"] else []
    title = f"{one['name']}, {one['vocab_size']:,} ids: tokens a sentence, premium over {reference}"
    table = _table(title, ("language", "script"), columns)
    for row in one["languages"]:
        low, high = row["premium_low"], row["premium_high"]
        cells = [
            f"{row['sentences']:,}",
            f"{row['median_tokens']:g}",
            f"{row['mean_tokens']:.2f}",
            f"{row['p90_tokens']}",
            f"{row['tokens_per_byte']:.3f}",
            f"{row['tokens_per_character']:.3f}",
            _premium(row),
            "-" if low is None else f"{low:.2f}-{high:.2f}",
        ]
        if one["price_per_million_tokens"]:
            cells.append(_number(row["price_of_million_reference_tokens"], ".4g"))
        if one["tokens_per_second"]:
            cells.append(_number(row["seconds_per_sentence"], ".3g"))
        table.add_row(shown(row["language"]), row["script"], *cells)
    return table


def _coverage(one: Mapping[str, Any]) -> Any:
    columns = ("tokens a word", "words whole", "characters whole", "unknown", "less than a character", "lost")
    table = _table(f"{one['name']}: coverage, and sentences that do not come back", ("language", "script"), columns)
    for row in one["languages"]:
        table.add_row(
            shown(row["language"]),
            row["script"],
            _number(row["tokens_per_word"], ".2f"),
            _number(row["single_token_words"], ".1%"),
            _number(row["single_token_characters"], ".1%"),
            f"{row['unknown_share']:.1%}",
            _number(row["byte_share"], ".1%"),
            f"{row['round_trip_failures']:,}",
        )
    return table


def _by_script(one: Mapping[str, Any]) -> Any:
    columns = ("languages", "median", "mean", "p90", "tokens/byte", "/character", "lost", "premium")
    table = _table(f"{one['name']}, by script", ("script",), columns)
    for row in one["scripts"]:
        table.add_row(
            row["script"],
            f"{len(row['languages'])}",
            f"{row['median_tokens']:g}",
            f"{row['mean_tokens']:.2f}",
            f"{row['p90_tokens']}",
            f"{row['tokens_per_byte']:.3f}",
            f"{row['tokens_per_character']:.3f}",
            f"{row['round_trip_failures']:,}",
            _number(row["premium"], ".2f"),
        )
    return table


def _premium(row: Mapping[str, Any]) -> str:
    if row["premium"] is None:
        return "-"
    return f"{row['premium']:.2f}" + ("*" if row["unknown_share"] > _UNKNOWN_SHOWN else "")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _notes(data: Mapping[str, Any]) -> list[str]:
    lines = [
        f"premium: tokens for what {data['reference']} says with one; as much in money and in time, at one price and "
        "speed a token"
    ]
    for one in data["tokenizers"]:
        rows = one["languages"]
        if any(row["unknown_share"] > _UNKNOWN_SHOWN for row in rows):
            lines.append(
                f"* {one['name']} reads more than {_UNKNOWN_SHOWN:.0%} of these tokens as unknown: not cheap, lost"
            )
        failed = sum(row["round_trip_failures"] for row in rows)
        if failed:
            beyond = sum(row["failures_beyond_normalisation"] for row in rows)
            lines.append(
                f"{one['name']}: {failed:,} sentences do not come back exactly, {beyond:,} beyond case and marks"
            )
    if data["texts"]["blank_left_out"]:
        lines.append(f"empty sentences left out: {data['texts']['blank_left_out']:,}")
    return lines
