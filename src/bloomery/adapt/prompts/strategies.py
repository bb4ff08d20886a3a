"""Strategies: how a prompt is put to a model, each an `Answerer`.

    direct        one question, with or without examples
    thought       the model thinks first, the answer is read behind it (Wei et al., 2022; Kojima et al., 2022)
    votes         several thoughts, drawn with seeds; the answer most end in (self-consistency, Wang et al., 2023)
    routed        votes where enough agree, the greedy thought elsewhere (Gemini report, 2023, appendix)
    parts         smaller questions first, each answered with the answers before it (least-to-most, Zhou et al., 2023)

Every call is kept, thinking included, and what all of them took is the answer's. This module does not know tasks,
scorers or whose model it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from bloomery.adapt.prompts.examples import Embed, ExampleChooser, chooser
from bloomery.adapt.prompts.tally import SampleError, Tally, seed_for
from bloomery.adapt.prompts.template import PromptTemplate
from bloomery.core.errors import ConfigError
from bloomery.core.messages import ChatAnswer, ChatModel, ChatOptions, Message
from bloomery.evaluate.sample import Answered, Sample

_BULLET = re.compile(r"^\s*(?:[-*•]+\s*|\(?\d{1,3}[.):]\s+)*")
Kind = Literal["direct", "thought", "votes", "routed", "parts"]


@dataclass(frozen=True, kw_only=True)
class StrategyConfig:
    """How a prompt is put to a model."""

    kind: Kind = "direct"
    votes: int = 8
    """Of votes and routed: thoughts drawn for each sample."""
    temperature: float = 0.7
    """Of votes and routed: of the thoughts that are drawn; greedy ones would all be the same."""
    threshold: float = 0.5
    """Of routed: the share of votes from which the vote is taken."""
    max_parts: int = 6
    """Of parts: smaller questions at most."""
    plain: bool = False
    """The prompt goes as one text that the answer continues, for models that know no chat."""
    concurrency: int = 1
    """Calls for one sample under way at a time."""
    seed: int = 0
    """Of what is drawn."""

    def __post_init__(self) -> None:
        if not 1 <= self.votes <= 1000:
            raise ConfigError(f'"votes" is {self.votes}, but should be from 1 to 1,000')
        if self.kind in ("votes", "routed") and not 0 < self.temperature <= 2:
            raise ConfigError('"temperature" of votes is more than 0, and 2 at most', hint="0.7 is usual")
        if not 0 <= self.threshold <= 1 or not 1 <= self.max_parts <= 50:
            raise ConfigError('"threshold" is from 0 to 1, "max_parts" from 1 to 50')


class Strategy:
    """What all have: a prompt, a model, and examples. Safe to use from several threads, as the model is."""

    kind: Kind = "direct"

    def __init__(
        self, template: PromptTemplate, model: ChatModel, examples: ExampleChooser, config: StrategyConfig | None = None
    ) -> None:
        self.template, self.model, self.examples = template, model, examples
        self.config = config or StrategyConfig(kind=self.kind)

    @property
    def name(self) -> str:
        """Prompt, strategy, model."""
        return f"{self.template.identity} {self.kind} {self.model.name}"

    def answer(self, sample: Sample) -> Answered:
        """See `Answerer`."""
        tally = Tally(self.model, sample)
        try:
            return self._answered(sample, tally)
        except SampleError as error:
            return tally.answered(None, error=str(error), failed=error.failed)

    def asked(self, sample: Sample, **more: Any) -> list[Message]:
        """The messages of the first call; one with the whole text, for models that continue."""
        examples = self.examples.choose(sample)
        if self.config.plain:
            return [{"role": "user", "content": self.template.text(sample, examples, **more)}]
        return self.template.messages(sample, examples, **more)

    def options(self, sample: Sample, *parts: object, **changes: Any) -> ChatOptions:
        """How the sample is asked, with a seed of its own. A text that is continued ends where examples end: at a
        blank line, where the prompt does not say otherwise."""
        if self.config.plain and not self.template.options.stop:
            changes = {"stop": ("\n\n",), **changes}
        return self.template.chat_options(sample, seed=seed_for(self.config.seed, sample.id, *parts), **changes)

    def _answered(self, sample: Sample, tally: Tally) -> Answered:
        said = tally.ask(self.asked(sample), self.options(sample))
        text = self.template.answer.read(said.text, sample.choices)
        return tally.answered(text, details=_ended(said))


class Direct(Strategy):
    """One question, one answer."""


class Thought(Strategy):
    """Thinks first; where the thinking ended without an answer, the answer alone is asked for."""

    kind: Kind = "thought"

    def _answered(self, sample: Sample, tally: Tally) -> Answered:
        text, said = self._greedy(sample, tally)
        return tally.answered(text, details={"thinking": said.text, **_ended(said)})

    def _greedy(self, sample: Sample, tally: Tally) -> tuple[str | None, ChatAnswer]:
        messages = self.asked(sample)
        said = tally.ask(messages, self.options(sample))
        text = self.template.answer.read(said.text, sample.choices)
        return (self._finished(messages, said.text, sample, tally) if text is None else text), said

    def _finished(self, messages: list[Message], thinking: str, sample: Sample, tally: Tally) -> str | None:
        """The second prompt of Kojima et al.: thinking, and "Therefore, the answer is"; held to the choices."""
        rule = self.template.answer
        held: dict[str, Any] = {"choices": rule.names(sample.choices)} if sample.choices else {}
        finish = self.template.finishing(sample)
        more: list[Message] = [{"role": "assistant", "content": thinking}, {"role": "user", "content": finish}]
        asked = [*messages, *more]
        if self.config.plain:
            asked = [{"role": "user", "content": f"{messages[0]['content']} {thinking.strip()}\n{finish}".rstrip()}]
        said = tally.ask(asked, self.template.options.chat(temperature=0.0, **held))
        marked = said.text if not rule.marker or rule.after_marker(said.text) is not None else rule.marker + said.text
        return rule.read(marked, sample.choices)


class Votes(Thought):
    """The answer that most thoughts end in; its share of all thoughts drawn, those without an answer among them, is
    the confidence. Of answers with as many votes the one that came first is taken."""

    kind: Kind = "votes"

    def _answered(self, sample: Sample, tally: Tally) -> Answered:
        text, share, votes = self._vote(sample, tally)
        return tally.answered(text, confidence=share, details={"votes": votes})

    def _vote(self, sample: Sample, tally: Tally) -> tuple[str | None, float, dict[str, int]]:
        config = self.config
        several = [replace(self.options(sample, n), temperature=config.temperature) for n in range(config.votes)]
        said = tally.ask_several(self.asked(sample), several, concurrency=config.concurrency)
        return counted([self.template.answer.read(one.text, sample.choices) for one in said])


class Routed(Votes):
    """The vote where its share reaches the threshold, the greedy thought where it does not."""

    kind: Kind = "routed"

    def _answered(self, sample: Sample, tally: Tally) -> Answered:
        text, share, votes = self._vote(sample, tally)
        if text is not None and share >= self.config.threshold:
            return tally.answered(text, confidence=share, details={"votes": votes, "route": "vote"})
        greedy, said = self._greedy(sample, tally)
        details = {"votes": votes, "route": "greedy", "thinking": said.text}
        agreed = votes.get(greedy, 0) / self.config.votes if greedy is not None else None
        return tally.answered(greedy, confidence=agreed, details=details)


class Parts(Thought):
    """Least-to-most: the model names smaller questions, answers one after the other, and then the question itself.

    Templates see `stage` ("split", "part", "whole"), `parts` (questions with answers so far) and `part`.
    """

    kind: Kind = "parts"

    def _answered(self, sample: Sample, tally: Tally) -> Answered:
        free = replace(self.options(sample), choices=(), schema=None)
        split = tally.ask(self.asked(sample, stage="split", parts=(), part=""), free)
        done: list[dict[str, str]] = []
        for part in listed(split.text)[: self.config.max_parts]:
            said = tally.ask(self.asked(sample, stage="part", parts=tuple(done), part=part), free)
            done.append({"question": part, "answer": said.text.strip()})
        messages = self.asked(sample, stage="whole", parts=tuple(done), part="")
        said = tally.ask(messages, self.options(sample))
        text = self.template.answer.read(said.text, sample.choices)
        if text is None:
            text = self._finished(messages, said.text, sample, tally)
        return tally.answered(text, details={"parts": done, "thinking": said.text, **_ended(said)})


_KINDS: dict[str, type[Strategy]] = {one.kind: one for one in (Direct, Thought, Votes, Routed, Parts)}
KINDS = tuple(_KINDS)


def open_strategy(
    template: PromptTemplate,
    model: ChatModel,
    config: StrategyConfig | None = None,
    *,
    train: Sequence[Sample] = (),
    embed: Embed | None = None,
) -> Strategy:
    """A prompt as an answerer; its examples are chosen from `train`. ConfigError where settings do not go together."""
    config = config or StrategyConfig()
    if config.kind != "direct" and template.answer.constrained:
        raise ConfigError(
            f'"{config.kind}" lets the model think, which answer.constrained does not',
            hint='kind = "direct", or a template with a marker before the answer',
        )
    if config.kind == "parts" and "stage" not in template.user:
        raise ConfigError('"parts" needs a template that says "stage"', hint='the prompt "parts" of the library does')
    return _KINDS[config.kind](template, model, chooser(template, train, embed), config)


def counted(answers: Sequence[str | None]) -> tuple[str | None, float, dict[str, int]]:
    """The answer with the most votes, its share of all, and the votes of each."""
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return None, 0.0, {}
    winner, number = votes.most_common(1)[0]  # of equals the first that was counted
    return winner, number / len(answers), dict(votes.most_common())


def listed(text: str) -> list[str]:
    """The questions of a list, one a line, without bullets and numbers."""
    bare = (_BULLET.sub("", line).strip() for line in text.splitlines())
    return [line for line in bare if any(c.isalnum() for c in line)]


def _ended(said: ChatAnswer) -> dict[str, Any]:
    """That an answer was cut is worth knowing."""
    return {"cut": True} if said.finish_reason == "length" else {}
