"""Vocabulary: how many tokens a tokenizer should have, chosen while a corpus is still raw text.

    N_v = 3,145,728 (N / 33e6)^0.8354 parameters, divided by the hidden size        (Tao et al. 2024, arXiv 2407.13623)

N are the parameters that are not the vocabulary's, of the model that the budget is likely to buy: for that the planner
is asked once, with a vocabulary of the usual size, before there are any tokens. The rule was found on models from 33M
parameters on. This module does not know tokenizers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bloomery.core.run import Meter
from bloomery.models import ModelConfig
from bloomery.training.planning.plan import PlanRequest
from bloomery.training.planning.planner import plan
from bloomery.training.planning.shapes import matrix_parameters, suggested_vocabulary

_BYTES_A_TOKEN = 3.5
"""Of English text and some thousand tokens; only the order of the size that a budget buys hangs on it."""
_STEP = 64
_LEAST, _MOST = 512, 65_536


def choose_vocabulary(
    request: PlanRequest,
    text_bytes: int,
    *,
    meter: Meter | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[int, str]:
    """A vocabulary for a corpus of so many bytes, and why; `request` knows nothing of its tokens yet. Raises what
    `plan` raises."""
    model = request.base
    if not request.fixed_size:
        tokens = round(text_bytes / _BYTES_A_TOKEN)
        asked = replace(request, tokens=tokens, text_bytes=text_bytes, tries_threads=False)
        model = plan(asked, meter=meter, say=say).model
    chosen = rounded_vocabulary(model)
    return chosen, (
        f"vocabulary {chosen:,}: for about {matrix_parameters(model) / 1e6:.2g}M parameters of the rest, by Tao et al."
    )


def rounded_vocabulary(model: ModelConfig) -> int:
    """What the rule gives for a model, in steps of 64 and within what is of use."""
    return min(_MOST, max(_LEAST, round(suggested_vocabulary(model) / _STEP) * _STEP))
