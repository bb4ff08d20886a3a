"""POST /v1/completions: prompts as text or token ids, with echo and log-probabilities of the prompt.

This module does not know how requests wait or run.
"""

from __future__ import annotations

from typing import Any, cast

from bloomery.core.errors import RequestError
from bloomery.engine import Delta, LanguageModel
from bloomery.engine.constraint import constraint_for
from bloomery.engine.language_model import Prompt, SamplingOptions
from bloomery.server.logprobs import LegacyLogprobs
from bloomery.server.replies import ending
from bloomery.server.schemas import CompletionBody
from bloomery.server.structure import Structure, answer_structure, relabelled
from bloomery.tokenizer import StreamDecoder

ROUTE = "/v1/completions"
DEFAULT_MAX_TOKENS = 16  # OpenAI's


def completion_prompts(body: CompletionBody) -> list[Prompt]:
    """The prompts of a body. A list of numbers is one prompt."""
    if isinstance(body.prompt, str):
        return [body.prompt]
    if not body.prompt:
        raise RequestError("prompt is an empty list", param="prompt", code="invalid_value")
    if isinstance(body.prompt[0], int):
        return [cast(list[int], body.prompt)]
    return list(cast(list[str] | list[list[int]], body.prompt))


def completion_options(model: LanguageModel, body: CompletionBody) -> SamplingOptions:
    """What the engine is asked. RequestError for a structure that cannot be kept to; may take a while, then."""
    options = sampling_options(body)
    options["max_new_tokens"] = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    options["logprobs"] = body.logprobs
    options["prompt_logprobs"] = body.logprobs if body.echo else None
    structure = answer_structure(body)
    if structure.constraint is not None:
        options["constraint"] = structure.constraint
        try_constraint(model, structure)
    return options


def try_constraint(model: LanguageModel, structure: Structure) -> None:
    """Compile the constraint now, so that what is wrong with it is told before a stream begins; it is kept."""
    assert structure.constraint is not None
    try:
        constraint_for(structure.constraint, model.tokenizer)
    except RequestError as error:
        raise relabelled(error, structure.param) from error


def sampling_options(body: Any) -> SamplingOptions:
    """What both routes ask of the sampler. top_k -1 means all, as vLLM's clients say it."""
    return {
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": body.top_p,
        "top_k": None if body.top_k == -1 else body.top_k,
        "min_p": body.min_p,
        "typical_p": body.typical_p,
        "repetition_penalty": 1.0 if body.repetition_penalty is None else body.repetition_penalty,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "logit_bias": body.logit_bias or {},
        "seed": body.seed,
        "stop": body.stop,
        "ignore_eos": bool(body.ignore_eos),
    }


class CompletionFormat:
    """See `replies.Format`. `prompts` are token ids; with `echo` a choice's text begins with its prompt."""

    whole_object = "text_completion"
    chunk_object = "text_completion"

    def __init__(
        self, model: LanguageModel, prompts: list[list[int]], n: int, *, echo: bool, logprobs: int | None
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._n = n
        self._echo = echo
        self._logprobs = logprobs
        self._open: dict[int, LegacyLogprobs] = {}

    def chunks(self, choice: int, delta: Delta) -> list[dict[str, Any]]:
        # The prompt's log-probabilities are in the first delta that comes after prefill.
        entries, text = [], delta.text
        if choice not in self._open:
            self._open[choice] = LegacyLogprobs(self._model.tokenizer, continues=not self._echo)
            if self._echo:
                text = self._prompt_text(choice) + text
                if self._logprobs is not None and delta.prompt_logprobs is not None:
                    scored = delta.prompt_logprobs  # fewer than the prompt's, where time was over before its end
                    prompt = self._prompts[choice // self._n][: len(scored)]
                    self._open[choice].add_prompt(prompt, scored)
        if self._logprobs is not None:
            self._open[choice].add_delta(delta)
        if text or delta.finish_reason is not None or self._logprobs is not None:
            entries.append(self._entry(choice, text, delta))
        return entries

    def whole(self, choice: int, deltas: list[Delta]) -> dict[str, Any]:
        result = deltas[-1].result
        assert result is not None
        merged = Delta(
            text=result.text,
            token_ids=tuple(result.token_ids),
            logprobs=tuple(result.logprobs),
            top_logprobs=None if result.top_logprobs is None else tuple(result.top_logprobs),
            finish_reason=result.finish_reason,
            prompt_logprobs=result.prompt_logprobs,
        )
        return self.chunks(choice, merged)[0]

    def _entry(self, choice: int, text: str, delta: Delta) -> dict[str, Any]:
        logprobs = self._open[choice].take() if self._logprobs is not None else None
        return {"index": choice, "text": text, "logprobs": logprobs} | ending(delta.finish_reason)

    def _prompt_text(self, choice: int) -> str:
        # Not `decode`: characters that the prompt leaves unfinished belong to the completion's first token.
        characters = StreamDecoder(self._model.tokenizer)
        return "".join(map(characters.push, self._prompts[choice // self._n]))
