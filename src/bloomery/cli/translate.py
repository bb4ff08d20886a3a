"""`bloomery translate`: texts for texts, line by line. This module does not know how they are searched."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ConfigError

_MAX_CHARACTERS = 50_000_000


def translate(
    *texts: Annotated[str, Parameter(help="Texts [default: the lines that come on stdin].")],
    model: Annotated[
        str, Parameter(help="An encoder-decoder: artifact name or id, folder or hub id [default: the latest].")
    ] = "",
    beams: Annotated[int, Parameter(help="1 is greedy search.")] = 1,
    max_new_tokens: Annotated[int, Parameter(help="Tokens of a text at most.")] = 128,
    length_penalty: Annotated[float, Parameter(help="Above 1 prefers long texts, below 1 short ones.")] = 1.0,
    common: Common | None = None,
) -> None:
    """What a model that was trained on pairs writes for each text, one a line; --json prints tokens and scores."""
    common = common or Common()
    if not texts and sys.stdin.isatty():
        raise ConfigError("nothing to translate", hint='bloomery translate "ein Haus"')
    from bloomery.engine import SequenceModel, load

    rows = list(texts) or [line for line in sys.stdin.read(_MAX_CHARACTERS).splitlines() if line.strip()]
    workspace = common.workspace()
    loaded = load(model or workspace.latest("seq2seq"), workspace=workspace)
    if not isinstance(loaded, SequenceModel):
        raise ConfigError(f"{loaded.name} does not write texts for texts", hint="bloomery generate, or bl.load(...)")
    found = loaded.translate(rows, beams=beams, max_new_tokens=max_new_tokens, length_penalty=length_penalty)
    if common.json:
        print_json([asdict(one) for one in found])
        return
    for one in found:
        print(one.text)
