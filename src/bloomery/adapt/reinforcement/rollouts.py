"""Rollouts: answers that the model which is being trained gives now, drawn by the engine.

The engine reads the very parameters that are trained: nothing is copied, and what it remembers of earlier weights is
forgotten before each draw. Its native code would hold a copy, so steps are PyTorch's. This module does not know rewards
or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.engine import LanguageModel
from bloomery.engine.engine import EngineConfig
from bloomery.engine.scheduler import SchedulerConfig
from bloomery.models import Decoder
from bloomery.tokenizer import Tokenizer

_RUNNING = 256
"""Answers that are drawn together."""


@dataclass(frozen=True)
class Rollout:
    """An answer: its prompt's place, ids, text, and each token's log-probability under the model's unmodified
    distribution, as the engine found it. `ended`: by an end token, not for want of room."""

    place: int
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    ended: bool


class Drawer:
    """Draws answers from a decoder that changes between calls. Set the decoder's mode (`train`) after making one."""

    def __init__(
        self, decoder: Decoder, tokenizer: Tokenizer, *, max_new_tokens: int, cache_tokens: int, continues: bool = False
    ) -> None:
        """`cache_tokens`: positions of keys and values in memory for all answers that run together. `continues`:
        answers go on from the prompt's text, so a space at their start is kept."""
        config = EngineConfig(native="off", cache_tokens=cache_tokens, scheduler=SchedulerConfig(max_running=_RUNNING))
        self.model = LanguageModel(decoder, tokenizer, name="policy", engine=config)
        self.max_new_tokens, self.continues = max_new_tokens, continues

    def draw(self, prompts: Sequence[tuple[int, ...]], group: int, *, temperature: float, seed: int) -> list[Rollout]:
        """`group` answers for each prompt, one after another; the same seed and weights give the same."""
        training = self.model.decoder.training
        self.model.decoder.eval()
        try:
            with self.model.engine.paused(empty=True):
                pass  # keys and values of texts that other weights have read
            requests = [self._request(prompt, group, temperature, seed, place) for place, prompt in enumerate(prompts)]
            found: dict[int, Any] = {}
            for place, delta in self.model.engine.run_all(requests):
                if delta.result is not None:
                    found[place] = delta.result
        finally:
            self.model.decoder.train(training)
        rollouts = []
        for place in range(len(prompts) * group):
            result = found[place]
            rollouts.append(
                Rollout(
                    place=place // group,
                    prompt=tuple(result.prompt_token_ids),
                    completion=tuple(result.token_ids),
                    text=result.text,
                    logprobs=tuple(result.logprobs),
                    ended=result.finish_reason == "stop",
                )
            )
        return rollouts

    def _request(self, prompt: tuple[int, ...], group: int, temperature: float, seed: int, place: int) -> Any:
        options: list[Any] = [
            {
                "max_new_tokens": self.max_new_tokens,
                "temperature": temperature,
                "seed": (seed * 0x9E3779B97F4A7C15 + place * group + sample) % 2**63,
            }
            for sample in range(group)
        ]
        return self.model.request(prompt, options, continues=self.continues)

    def close(self) -> None:
        """Give the engine's meter back."""
        self.model.close()
