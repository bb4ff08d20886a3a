"""Looking inside a served request: an extension of both text routes, for keys with the right "inspect".

The body's `inspect` asks for the candidates of each new token before and after sampling, with the step that it was
computed in (prefill or decode, how long, with how many others), and for rows of attention. Rows are computed on demand,
when the text is there, by reading it once more; they are bounded in number and length. This module does not know how
requests wait or run.
"""

from __future__ import annotations

from typing import Any

from bloomery.core.errors import RequestError
from bloomery.core.quantity import Quantity
from bloomery.engine import GenerationResult, GlassBox, LanguageModel, VisionLanguageModel
from bloomery.engine.metering import Phase
from bloomery.server.logprobs import token_name
from bloomery.server.schemas import AttentionAsk, Inspect

MAX_ROWS = 64
"""Rows of attention of all choices of a request."""


def check_inspect(model: LanguageModel, asked: Inspect, *, choices: int) -> None:
    """RequestError for what this model cannot show, for places that it does not have, and for too much."""
    if len(asked.attention) * choices > MAX_ROWS:
        message = f"{len(asked.attention)} rows of {choices} choices are more than {MAX_ROWS}"
        raise RequestError(message, param="inspect.attention", code="invalid_value")
    layers, heads = model.config.num_hidden_layers, model.config.num_attention_heads
    for one in asked.attention:
        if not -layers <= one.layer < layers or not -heads <= one.head < heads:
            message = f"{model.name} has {layers} layers of {heads} heads"
            raise RequestError(message, param="inspect.attention", code="invalid_value")
    if asked.attention and isinstance(model, VisionLanguageModel):
        message = "attention over pictures is not shown by this route"
        raise RequestError(message, param="inspect.attention", code="unsupported_parameter")


def inspected(model: LanguageModel, result: GenerationResult, asked: Inspect) -> tuple[dict[str, Any], Quantity]:
    """What was asked for, of one finished choice, as JSON, and the joules that it took. May take as long as reading the
    text: rows of attention read it once more."""
    told: dict[str, Any] = {"tokens": _tokens(model, result)}
    phase = model.phase()
    if asked.attention:
        told["attention"] = _rows(model, result, asked.attention, phase)
    return told, phase.energy()


def _tokens(model: LanguageModel, result: GenerationResult) -> list[dict[str, Any]]:
    def named(token_id: int) -> dict[str, Any]:
        return {"token_id": token_id, "token": token_name(model.tokenizer, token_id)}

    return [
        {
            **named(one.token_id),
            "candidates": [
                {**named(c.token_id), "logprob": _finite(c.logprob), "chosen_from": _finite(c.chosen_from)}
                for c in one.candidates
            ],
            "phase": one.phase,
            "at_seconds": one.at_seconds,
            "step": {"seconds": one.step_seconds, "tokens": one.step_tokens, "sequences": one.step_sequences},
            "positions_in_memory": one.positions,
            "guessed": one.guessed,
        }
        for one in result.trace or ()
    ]


def _finite(value: float | None) -> float | None:
    """JSON has no minus infinity."""
    return None if value is None or value == float("-inf") else value


def _rows(
    model: LanguageModel, result: GenerationResult, asked: list[AttentionAsk], phase: Phase
) -> list[dict[str, Any]]:
    ids = [*result.prompt_token_ids, *result.token_ids]
    box = GlassBox(model.decoder, model.tokenizer, name=model.name)
    rows = []
    for one in asked:
        try:
            with phase.step(), model.computing():
                view = box.attention(ids, layer=one.layer, head=one.head, query=one.query, grid_limit=1)
        except RequestError as error:
            raise RequestError(str(error), hint=error.hint, param="inspect.attention", code="invalid_value") from error
        row = view.to_dict()
        rows.append({key: row[key] for key in _SHOWN})
    return rows


_SHOWN = ("layer", "head", "key_head", "scale", "softcap", "query", "keys", "max_difference", "largest_served")
