"""`bloomery inspect lens`: what a model would say after each of its layers. It does not know how that is found."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.inspect_options import PRESET, ModelName, Target, Text, Top, add_row, label, open_box, show, table
from bloomery.cli.options import Common, print_json


def probability(logprob: float, places: int = 2) -> str:
    """A probability with that many places, or with two digits where they would all be zero."""
    value = math.exp(logprob)
    return f"{value:.{places}f}" if not 0 < value < 0.5 * 10**-places else f"{value:.1e}"


def lens(
    model: ModelName = "",
    *,
    text: Text = PRESET,
    target: Target = None,
    position: Annotated[int, Parameter(help="After which token, from 0; -1 is the last.")] = -1,
    top: Top = 3,
    common: Common | None = None,
) -> None:
    """What the model would say after each of its layers: the residual stream through the last norm and the head."""
    common = common or Common()
    view = open_box(model, common.workspace()).lens(text, target=target, position=position, top=top)
    if common.json:
        print_json(view.to_dict())
        return
    where = f"{view.position.index} {label(view.position.text)}"
    title = f"{view.model}: logit lens at {where}; rank and p are those of the last layer's answer"
    shown = table(["layer", "most probable"], ["entropy", "rank", "p(answer)"])
    for layer in view.layers:
        guesses = "  ".join(f"{label(one.text)} {probability(one.logprob)}" for one in layer.guesses)
        name = "before" if layer.layer < 0 else str(layer.layer)
        numbers = (f"{layer.entropy:.3f}", f"{layer.answer_rank:,}", probability(layer.answer_logprob, places=4))
        add_row(shown, name, guesses, *numbers)
    show(title, shown)
