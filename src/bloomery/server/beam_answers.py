"""Beam search over HTTP, as vLLM's clients ask for it: `use_beam_search` with `length_penalty`.

The beams are `best_of`, or `n` of them, and the `n` best are told, the best first. They are of the model's unmodified
distribution: what would change it, or would look at how tokens were drawn, is refused by name. This module does not
know how beams are searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core.errors import DeviceError, RequestError
from bloomery.engine import Delta, LanguageModel
from bloomery.engine.language_model import MAX_BEAMS
from bloomery.server.schemas import Body
from bloomery.server.waiting import Job

# Options of the engine, by the values that change nothing for beams.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "temperature": (0.0, 1.0),
    "top_p": (None, 1.0),
    "top_k": (None, 0),
    "min_p": (None, 0.0),
    "typical_p": (None, 1.0),
    "repetition_penalty": (1.0,),
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "logit_bias": ({},),
    "stop": (None, []),
    "logprobs": (None,),
    "prompt_logprobs": (None,),
    "constraint": (None,),
    "ignore_eos": (False,),
}
_CALLED = {"constraint": "response_format", "prompt_logprobs": "logprobs"}


@dataclass(frozen=True, kw_only=True)
class Beams:
    """How a request is searched."""

    width: int
    length_penalty: float

    def search(
        self, model: LanguageModel, prompts: list[list[int]], options: Mapping[str, Any], job: Job
    ) -> Iterator[tuple[int, Delta]]:
        """(choice, its one delta), prompt after prompt. RequestError where the beams' memory cannot be had."""
        for number, prompt in enumerate(prompts):
            try:
                results = model.beam_results(
                    prompt,
                    beams=self.width,
                    max_new_tokens=options["max_new_tokens"],
                    length_penalty=self.length_penalty,
                    cancel=job.cancel,
                    deadline=job.deadline,
                )
            except DeviceError as error:
                most = min(len(prompt) + options["max_new_tokens"], model.context_length + 1)
                block = model.engine.config.block_size
                needed = self.width * -(-most // block) * block
                status = 400 if needed > model.engine.capacity else 429  # others have it at the moment
                what: dict[str, Any] = {"hint": "fewer beams or tokens", "param": "n", "code": "no_memory"}
                raise RequestError(str(error), **what, status=status) from error
            for place, result in enumerate(results):
                told = Delta(
                    text=result.text,
                    token_ids=tuple(result.token_ids),
                    finish_reason=result.finish_reason,
                    result=result,
                )
                yield number * self.width + place, told


def beams_of(body: Body, options: Mapping[str, Any], *, images: bool) -> Beams | None:
    """What a body asks; None for no search. RequestError for what does not go with one."""
    if not body.use_beam_search:
        if body.length_penalty is not None:
            raise _refusal("length_penalty needs use_beam_search: true", "length_penalty")
        return None
    for name, value in options.items():
        if name in _NEUTRAL and value not in _NEUTRAL[name]:
            called = _CALLED.get(name, name)
            raise _refusal(f"{called} and use_beam_search exclude each other", called)
    if images or getattr(body, "inspect", None) is not None:
        raise _refusal(
            f"{'pictures' if images else 'inspect'} and use_beam_search exclude each other", "use_beam_search"
        )
    if options["max_new_tokens"] < 1:
        raise _refusal("max_tokens should be at least 1 with use_beam_search", "max_tokens")
    best_of = getattr(body, "best_of", None)
    width = best_of or body.n or 1
    if width > MAX_BEAMS:
        raise _refusal(f"{width} beams are more than {MAX_BEAMS}", "best_of" if best_of else "n")
    return Beams(width=width, length_penalty=1.0 if body.length_penalty is None else body.length_penalty)


def _refusal(message: str, param: str) -> RequestError:
    return RequestError(message, param=param, code="invalid_value")
