"""`bloomery inspect tokens`: distributions over tokens. This module does not know how they are made."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.inspect_options import ModelName, Target, Text, Top, add_row, label, number, open_box, show, table
from bloomery.cli.options import Common, print_json


def tokens(
    model: ModelName = "",
    *,
    text: Text = "My favorite color is",
    target: Target = None,
    top: Top = 10,
    temperature: Annotated[float, Parameter(help="0 is greedy.")] = 1.0,
    top_k: Annotated[int | None, Parameter(help="Only the k most probable tokens.")] = None,
    top_p: Annotated[float | None, Parameter(help="Only the most probable tokens that make up this share.")] = None,
    min_p: Annotated[float | None, Parameter(help="Only tokens at least this share of the best's probability.")] = None,
    common: Common | None = None,
) -> None:
    """The next token's distribution (of a masked model: each blank's), before and after temperature and filters."""
    common = common or Common()
    box = open_box(model, common.workspace())
    from bloomery.engine.params import SamplingParams

    params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    view = box.tokens(text, target=target, top=top, params=params)
    if common.json:
        print_json(view.to_dict())
        return
    for place in view.places:
        blank = place.index < len(view.tokens)
        where = f"the blank at {place.index}" if blank else f"the token after {label(view.tokens[-1].text)}"
        title = f"{view.model}: {where}"
        shown = table(["id", "token"], ["probability", "log-probability", "sampled with", "log"])
        for one in place.candidates:
            after = one.filtered_logprob
            sampled = ("-", "-") if after is None else (f"{math.exp(after):.4f}", number(after))
            probability = f"{math.exp(one.logprob):.4f}"
            add_row(shown, str(one.token_id), label(one.text), probability, number(one.logprob), *sampled)
        show(title, shown)
