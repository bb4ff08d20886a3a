"""`bloomery annotate generate`: texts written by a model. This module does not know prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.annotate_options import ModelOptions
from bloomery.cli.options import Common, Fresh, show_artifact
from bloomery.core.errors import ConfigError
from bloomery.core.quantity import Quantity


def generate(
    file: Annotated[Path, Parameter(help="A TOML file: kind (documents, questions, instructions), prompt, count, ...")],
    corpus: Annotated[str, Parameter(help="What questions are about: name, id or folder of a corpus.")] = "",
    *,
    held_out: Annotated[
        list[Path] | None,
        Parameter(
            negative=(), help="A file, folder or glob of files of which nothing may be in a record. May be repeated."
        ),
    ] = None,
    count: Annotated[int | None, Parameter(help="Records to make [default: the file's].")] = None,
    seed: Annotated[int | None, Parameter(help="Of all that is drawn [default: the file's].")] = None,
    which: ModelOptions | None = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Let a model write a corpus; copies, near copies and overlaps with held-out files are left out, with the
    reason."""
    common, which = common or Common(), which or ModelOptions()
    from dataclasses import replace

    from bloomery.corpus.annotation.synthesis import synthesise
    from bloomery.corpus.annotation.synthesis_prompts import read_synthesis

    config = read_synthesis(file)
    given = {name: value for name, value in (("count", count), ("seed", seed)) if value is not None}
    config = replace(config, **given)
    workspace = common.workspace()
    if corpus and config.kind != "questions":
        raise ConfigError(f"{config.kind} are about no corpus", hint='kind = "questions" are')
    about = None
    if config.kind == "questions":
        about = workspace.find(corpus, kind="corpus") if corpus else workspace.latest("corpus")
    with which.opened(workspace) as chat:
        made = synthesise(
            chat,
            config,
            corpus=about,
            held_out=held_out or (),
            concurrency=which.concurrency,
            workspace=workspace,
            fresh=fresh,
        )
    metrics = made.metrics
    lines = [
        f"{split}: {n:,} records, {metrics['text_bytes'][split]:,} bytes" for split, n in metrics["documents"].items()
    ]
    lines += [f"taken out, {reason}: {n:,}" for reason, n in metrics["dropped"].items()]
    tokens = [metrics[name] for name in ("prompt_tokens", "completion_tokens")]
    said = " + ".join("unknown" if one is None else f"{one:,}" for one in tokens)
    joules = Quantity.from_dict(metrics["answer_joules"]).text("J")
    lines.append(f"{metrics['attempts']:,} answers, {said} tokens, {joules}")
    show_artifact(made, common, lines)
