"""LanguageModel: a decoder with its tokenizer, ready to be asked.

Safe to use from several threads: requests run together, step by step, so one may be started while another is being
streamed. This module does not know where weights come from (see `loading`) nor HTTP.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import numpy as np
import torch

from bloomery.core.errors import ConfigError, RequestError
from bloomery.core.run import Meter
from bloomery.energy import open_meter
from bloomery.engine.adapters import Adapters
from bloomery.engine.asked import Asked
from bloomery.engine.beams import Beam, BeamsCut, BeamSteps, Cut, results_of
from bloomery.engine.constraint_spec import ConstraintSpec
from bloomery.engine.drafts import drafting_by
from bloomery.engine.engine import Engine, EngineConfig
from bloomery.engine.generation import Generation
from bloomery.engine.metering import Bench, Phase
from bloomery.engine.params import SamplingParams
from bloomery.engine.results import Delta, GenerationResult
from bloomery.engine.sampling import keep, log_probabilities, sampler_for
from bloomery.engine.sequence import Request
from bloomery.models import Decoder, ModelConfig
from bloomery.models.adapted import adapted_rows
from bloomery.models.adapter import Adapter
from bloomery.models.future_heads import FutureHeads
from bloomery.models.text_decoding import Hypothesis, check_length_penalty
from bloomery.tokenizer import Tokenizer

MAX_BEAMS = 64
Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]


class SamplingOptions(TypedDict, total=False):
    """The fields of SamplingParams as keyword arguments."""

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    seed: int | None
    stop: str | Sequence[str] | None
    logprobs: int | None
    prompt_logprobs: int | None
    trace: int | None
    ignore_eos: bool
    constraint: ConstraintSpec | Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class NextToken:
    """One token of a next-token distribution, before the filters and after them (None: the filters drop it)."""

    token_id: int
    text: str
    logprob: float
    filtered_logprob: float | None


class LanguageModel(Asked):
    """See the module. `name` is what the server calls it; `device` is where its weights are."""

    _engine: Engine

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        *,
        name: str,
        meter: Meter | None = None,
        engine: EngineConfig | None = None,
        draft_model: Decoder | None = None,
    ) -> None:
        """`meter` None opens the machine's own; `engine`: how much memory keys and values may take, and the like;
        `draft_model`: a smaller one with the same vocabulary, which guesses tokens. ConfigError if it has another."""
        self.decoder = decoder.eval()
        self.tokenizer = tokenizer
        self.name = name
        self._bench = Bench(open_meter() if meter is None else meter)
        if draft_model is not None and draft_model.config.vocab_size < tokenizer.vocab_size:
            raise ConfigError("the draft model has another vocabulary", hint="it should share the tokenizer")
        self._guesser: Decoder | FutureHeads | None = draft_model and draft_model.eval()
        self._adapters = Adapters(self.decoder)
        self._home, self._adapter = self, None
        self.set_engine(engine)

    def what(self) -> str:
        """What this model is."""
        return "a language model"

    def set_engine(self, config: EngineConfig | None) -> None:
        """Another engine for the requests that come from now on; memory of keys and values is begun anew."""
        home = self._home
        drafting = drafting_by(home._guesser, self.decoder, (config or EngineConfig()).draft_tokens)
        home._engine = Engine(self.decoder, self._bench, config, drafting=drafting)

    def set_draft_model(self, draft: LanguageModel) -> None:
        """A smaller model that guesses tokens from now on; texts stay the same. ConfigError if it has other tokens."""
        mine, its = self.tokenizer, draft.tokenizer
        size = mine.vocab_size
        same = its.vocab_size == size and all(mine.token_text(i) == its.token_text(i) for i in range(size))
        if not same or draft.config.vocab_size < size:
            what = f"{draft.name} has other tokens than {self.name}, and cannot guess its"
            raise ConfigError(what, hint="a draft model shares the tokenizer")
        self._home._guesser = draft.decoder
        self.set_engine(self.engine.config)

    def set_draft_heads(self, heads: FutureHeads) -> None:
        """Extra heads of this model that guess tokens from now on (`bloomery adapt --method heads` trains some); texts
        stay the same. ConfigError if they are of another model's size."""
        heads.check(self.decoder)
        self._home._guesser = heads.to(next(self.decoder.parameters()).device).eval()
        self.set_engine(self.engine.config)

    @property
    def engine(self) -> Engine:
        """Where the requests of this model are computed, those with adapters too."""
        return self._home._engine

    @property
    def adapter(self) -> Adapter | None:
        """What is added to the weights for what is asked of this one; see `adapted`."""
        return self._adapter

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The LoRA adapters that are loaded, by name."""
        return self._adapters.loaded

    def load_adapter(self, folder: str | Path, *, name: str | None = None) -> Adapter:
        """Read a LoRA adapter in PEFT's format, to be named by requests; `name` None is the folder's.

        ConfigError for a name that is taken, DataError, which says where, for files that are damaged, for another
        model, or ask for what is not supported.
        """
        return self._adapters.load(folder, name, self.engine)

    def unload_adapter(self, name: str) -> None:
        """Take an adapter away from requests that are still to come. RequestError if there is none."""
        self._adapters.unload(name)

    def merge_adapter(self, name: str) -> None:
        """Write an adapter into the weights, until `unmerge_adapter`. ConfigError for packed weights, for a second
        one, and while requests run."""
        self._adapters.merge(name, self.engine)

    def unmerge_adapter(self) -> None:
        """Bring the weights back as they were, bit by bit. ConfigError if no adapter is merged."""
        self._adapters.unmerge(self.engine)

    def adapted(self, name: str) -> Self:
        """This model with an adapter, under the adapter's name: the same weights, memory and engine; a model without a
        chat template has the adapter's. RequestError if there is none of that name."""
        view = copy.copy(self)
        view._adapter, view.name = adapter, name = self._adapters.get(name), name
        if self.tokenizer.chat_template is None and adapter.chat_template:
            view.tokenizer = self.tokenizer.with_chat_template(adapter.chat_template)
        return view

    @property
    def config(self) -> ModelConfig:
        return self.decoder.config

    @property
    def device(self) -> torch.device:
        return next(self.decoder.parameters()).device

    @property
    def context_length(self) -> int:
        """Tokens that the model can read at once."""
        return self.config.context_length

    def encode_prompt(self, prompt: Prompt, *, tools: Sequence[Mapping[str, Any]] | None = None) -> list[int]:
        """Token ids of a prompt.

        A string gets BOS where `transformers` would put it, and cannot spell special tokens; ids are taken as they
        are; chat messages, and the `tools` that they may use, go through the chat template. RequestError for an empty
        prompt, an id that the model does not have, or one longer than the context.
        """
        if isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt, add_bos=self.tokenizer.adds_bos)
        elif is_chat(prompt):
            ids = self.tokenizer.encode_chat(prompt, add_generation_prompt=True, tools=tools)  # type: ignore[arg-type]
        else:
            ids = self.check_ids(prompt)
        return self.check_length(ids)

    def check_length(self, ids: list[int]) -> list[int]:
        """The ids of a prompt; RequestError if there are none, or more than the context."""
        if not ids:
            raise RequestError("the prompt is empty", hint="give at least one token", param="prompt")
        if max(ids) >= self.config.vocab_size:
            raise RequestError(
                f"token id {max(ids)} is beyond the {self.config.vocab_size:,} that {self.name} has embeddings of",
                hint="its tokenizer has more tokens than the model knows",
                param="prompt",
            )
        readable = min(self.context_length, self.engine.capacity)
        if len(ids) > readable:
            what = "the context" if readable == self.context_length else "the memory for keys and values"
            raise RequestError(
                f"the prompt has {len(ids):,} tokens, {what} of {self.name} is {readable:,}",
                hint="shorten the prompt",
                param="prompt",
                code="context_length_exceeded",
            )
        return ids

    def check_ids(self, prompt: Sequence[Any]) -> list[int]:
        """A prompt of token ids as plain numbers; RequestError for one that the model does not have."""
        known = min(self.config.vocab_size, self.tokenizer.vocab_size)
        ids: list[int] = []
        for item in prompt:
            if isinstance(item, bool) or not isinstance(item, (int, np.integer)):
                raise RequestError("a prompt is a string, token ids or chat messages", param="prompt")
            if not 0 <= item < known:
                raise RequestError(f"token id {item} is outside the vocabulary of {known:,}", param="prompt")
            ids.append(int(item))
        return ids

    def generate(
        self,
        prompt: Prompt,
        *,
        adapter: str | None = None,
        cancel: threading.Event | None = None,
        **options: Unpack[SamplingOptions],
    ) -> GenerationResult:
        """Generate to the end. Options are the fields of SamplingParams, `adapter` names one that is loaded; errors are
        RequestErrors.

        At most as many tokens are generated as the context has room for; the last one may be the one after it,
        for it is never read again.
        """
        *_, last = self.stream(prompt, adapter=adapter, cancel=cancel, **options)
        assert last.result is not None
        return last.result

    def stream(
        self,
        prompt: Prompt,
        *,
        adapter: str | None = None,
        cancel: threading.Event | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Delta]:
        """Deltas as they come. The request is checked at once, before the first delta is asked for.

        Closing the iterator stops the work; setting `cancel` from another thread stops it at the next step with
        the finish reason "cancelled".
        """
        if adapter is not None:
            return self.adapted(adapter).stream(prompt, cancel=cancel, **options)
        ids = self.encode_prompt(prompt)
        request = self.request(ids, [options], continues=not is_chat(prompt), cancel=cancel)
        return (delta for _, delta in self.engine.run(request))

    def samples(
        self,
        prompt: Prompt,
        n: int,
        *,
        best_of: int | None = None,
        adapter: str | None = None,
        cancel: threading.Event | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[GenerationResult]:
        """`n` texts for one prompt, which is read once. With `best_of` as many are drawn, and the n whose tokens are
        most probable on average are returned, the best first. A seed gives each sample its own, the first the seed
        itself."""
        if adapter is not None:
            return self.adapted(adapter).samples(prompt, n, best_of=best_of, cancel=cancel, **options)
        drawn = n if best_of is None else best_of
        if any(isinstance(one, bool) or not isinstance(one, int) for one in (n, drawn)) or not 1 <= n <= drawn:
            raise RequestError(f"n should be a whole number from 1 to best_of, not {n!r:.40}", param="n")
        ids = self.encode_prompt(prompt)
        each = [with_seed_of(options, place) for place in range(drawn)]
        request = self.request(ids, each, continues=not is_chat(prompt), cancel=cancel)
        found = {place: delta.result for place, delta in self.engine.run(request) if delta.result is not None}
        results = [found[place] for place in range(drawn)]
        if best_of is None:
            return results
        return sorted(results, key=lambda one: -one.mean_logprob)[:n]

    def beam_search(
        self,
        prompt: Prompt,
        *,
        beams: int = 4,
        max_new_tokens: int = 128,
        length_penalty: float = 1.0,
        adapter: str | None = None,
    ) -> list[Beam]:
        """The most probable texts that a search with so many beams finds, the best first.

        Ranked by log-probability over length ** `length_penalty`, as `text_decoding.beam_search` says. RequestError for
        numbers out of range, DeviceError if there is no memory for so many.
        """
        if adapter is not None:
            how: dict[str, Any] = {"beams": beams, "max_new_tokens": max_new_tokens, "length_penalty": length_penalty}
            return self.adapted(adapter).beam_search(prompt, **how)
        steps = BeamSteps(self.engine, self._adapter)
        found = self._searched(steps, self.encode_prompt(prompt), beams, max_new_tokens, length_penalty)
        return [
            Beam(
                text=self.tokenizer.decode(one.token_ids),
                token_ids=one.token_ids,
                logprob=one.logprob,
                score=one.score,
                finish_reason="stop" if one.ended else "length",
            )
            for one in found
        ]

    def beam_results(
        self,
        prompt_ids: Sequence[int],
        *,
        beams: int,
        max_new_tokens: int,
        length_penalty: float = 1.0,
        cancel: threading.Event | None = None,
        deadline: float | None = None,
    ) -> list[GenerationResult]:
        """`beam_search` of a prompt that was encoded already, as results, the best first: the first has the seconds and
        joules of all, and none has log-probabilities of its tokens. A search that `cancel` or the `deadline` (in
        `time.perf_counter()`'s seconds) ends has no text."""
        steps = BeamSteps(self.engine, self._adapter, cut=Cut(cancel=cancel, deadline=deadline), phase=self.phase)
        try:
            found = self._searched(steps, list(prompt_ids), beams, max_new_tokens, length_penalty)
        except BeamsCut as cut:
            return results_of([], self.tokenizer, prompt_ids, beams, steps.phases, cut=cut.reason)
        return results_of(found, self.tokenizer, prompt_ids, beams, steps.phases)

    def _searched(
        self, steps: BeamSteps, ids: list[int], beams: int, max_new_tokens: int, length_penalty: float
    ) -> list[Hypothesis]:
        self._adapters.check(self._adapter)
        check_length_penalty(length_penalty)
        if isinstance(beams, bool) or not isinstance(beams, int) or not 1 <= beams <= MAX_BEAMS:
            raise RequestError(f"beams should be from 1 to {MAX_BEAMS}, not {beams!r:.20}", param="beams")
        limit = min(SamplingParams(max_new_tokens=max_new_tokens).max_new_tokens, self.context_length - len(ids) + 1)
        eos = sorted(self.tokenizer.eos_ids)
        return steps.search(ids, beams=beams, limit=limit, length_penalty=length_penalty, eos=eos)

    def request(
        self,
        prompt_ids: Sequence[int],
        samples: Sequence[SamplingOptions],
        *,
        continues: bool = True,
        cancel: threading.Event | None = None,
        **more: Any,
    ) -> Request:
        """A request to the engine for samples of one prompt that was encoded already; `more` are fields of `Request`.

        RequestError for options that are out of range.
        """
        self._adapters.check(self._adapter)
        room = min(self.context_length, self.engine.capacity) - len(prompt_ids) + 1
        generations = []
        for options in samples:
            params = SamplingParams(**options)  # type: ignore[arg-type]
            self._check_bias(params)
            generations.append(
                Generation(
                    self.tokenizer,
                    prompt_ids,
                    params,
                    sampler=sampler_for(params, prompt_ids, self.tokenizer, continues=continues),
                    max_new_tokens=min(params.max_new_tokens, room),
                    continues=continues,
                    bench=self._bench,
                )
            )
        shares = more.pop("shares", True) and self.engine.config.prefix_cache
        return Request(
            prompt_ids=prompt_ids,
            generations=generations,
            adapter=self._adapter,
            cancel=cancel or threading.Event(),
            shares=shares,
            **more,
        )

    def _check_bias(self, params: SamplingParams) -> None:
        known = self.tokenizer.vocab_size
        if outside := [token for token in params.logit_bias if token >= known]:
            raise RequestError(
                f"logit_bias: token id {outside[0]} is outside the vocabulary of {known:,}", param="logit_bias"
            )

    def logits(
        self,
        input_ids: Sequence[int] | Sequence[Sequence[int]] | np.ndarray | torch.Tensor,
        *,
        adapter: str | None = None,
    ) -> torch.Tensor:
        """Logits (B, T, V) float32 on the CPU of token ids (T,) or (B, T), without a cache."""
        if adapter is not None:
            return self.adapted(adapter).logits(input_ids)
        self._adapters.check(self._adapter)
        try:
            ids = input_ids if isinstance(input_ids, torch.Tensor) else torch.as_tensor(np.asarray(input_ids))
        except (ValueError, TypeError) as error:
            raise RequestError("token ids should be numbers, in rows of equal length", param="input_ids") from error
        if ids.numel() == 0:
            raise RequestError("there are no token ids", param="input_ids")
        if ids.dim() == 1:
            ids = ids[None]
        if ids.dim() != 2 or ids.is_floating_point():
            raise RequestError(f"token ids have shape (T,) or (B, T), not {tuple(ids.shape)}", param="input_ids")
        if int(ids.min()) < 0 or int(ids.max()) >= self.config.vocab_size:
            raise RequestError(f"a token id is outside the vocabulary of {self.config.vocab_size:,}", param="input_ids")
        if ids.shape[1] > self.context_length:
            raise RequestError(
                f"{ids.shape[1]:,} tokens are more than the context of {self.context_length:,}", param="input_ids"
            )
        with self._bench.turns.take(), torch.inference_mode(), self.computing():
            result = self.decoder(ids.to(self.device, torch.int64)).float().cpu()
        return result.clone() if result.is_inference() else result

    def next_token(
        self,
        prompt: Prompt,
        *,
        top: int = 10,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
    ) -> list[NextToken]:
        """The `top` most probable next tokens, with log-probabilities before and after temperature and filters."""
        params = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise RequestError(f"top should be a whole number from 1, not {top!r:.40}", param="top")
        return distribution(self.logits(self.encode_prompt(prompt))[0, -1], params, self.tokenizer, top=top)

    def computing(self) -> AbstractContextManager[None]:
        """Inside, forwards of the decoder in this thread are those of this model, its adapter included."""
        return adapted_rows([(self._adapter, 1)])

    def phase(self) -> Phase:
        """A phase of work on this model beside the engine: inside its steps nothing else is computed with it, and their
        seconds and joules are counted."""
        return Phase(self._bench)

    def close(self) -> None:
        """Close the energy meter."""
        self._bench.meter.close()


def distribution(row: torch.Tensor, params: SamplingParams, tokenizer: Tokenizer, *, top: int) -> list[NextToken]:
    """The `top` most probable tokens of float32 CPU logits (V,), before and after the filters of `params`."""
    before = log_probabilities(row)
    kept = keep(row, params)
    after = torch.full_like(before, -torch.inf)
    after[kept.ids] = torch.log_softmax(kept.scores, dim=-1)
    best = torch.topk(before, min(top, len(before), tokenizer.vocab_size)).indices.tolist()
    return [
        NextToken(
            token_id=i,
            text=tokenizer.decode([i], skip_special=False),
            logprob=float(before[i]),
            filtered_logprob=float(after[i]) if torch.isfinite(after[i]) else None,
        )
        for i in best
    ]


def with_seed_of(options: SamplingOptions, place: int) -> SamplingOptions:
    """The options of one of several samples: seeds of later ones follow from the first's."""
    options, seed = options.copy(), options.get("seed")
    if seed is not None and place:
        options["seed"] = (seed + place * 0x9E3779B97F4A7C15) % 2**63
    return options


def is_chat(prompt: Prompt) -> bool:
    """Whether a prompt is chat messages."""
    return not isinstance(prompt, str) and len(prompt) > 0 and isinstance(prompt[0], Mapping)
