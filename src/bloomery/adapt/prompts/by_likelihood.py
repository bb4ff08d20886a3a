"""By likelihood: the choice that a model finds the most probable after the prompt, each choice scored.

What a base model without chat training is good for, on a small machine. Confidence is the softmax of what the choices
are compared by. This module does not know whose model it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from bloomery.adapt.prompts.examples import Embed, ExampleChooser, chooser
from bloomery.adapt.prompts.template import PromptTemplate
from bloomery.core.likelihood import Likelihood, LikelihoodModel, Pair
from bloomery.core.quantity import Quantity
from bloomery.evaluate.sample import Answered, Call, Sample

Length = Literal["none", "tokens", "bytes", "prior"]


class ByLikelihood:
    """An `Answerer`. Safe to use from several threads, as the model is."""

    kind = "likelihood"

    def __init__(
        self,
        template: PromptTemplate,
        model: LikelihoodModel,
        examples: ExampleChooser,
        *,
        length: Length = "none",
    ) -> None:
        """`length`: choices are compared by their log-probability; per token; per byte; or by how much the question
        raises it over a prompt with an empty question (pointwise mutual information, Holtzman et al., 2021, after the
        answers' prior, Zhao et al., 2021)."""
        self.template, self.model, self.examples, self.length = template, model, examples, length

    @property
    def name(self) -> str:
        by = "" if self.length == "none" else f" by {self.length}"
        return f"{self.template.identity} {self.kind}{by} {self.model.name}"

    def asked(self, sample: Sample) -> list[dict[str, str]]:
        """The text that the choices are scored after."""
        return [{"role": "user", "content": self.template.text(sample, self.examples.choose(sample))}]

    def answer(self, sample: Sample) -> Answered:
        """See `Answerer`."""
        if not sample.choices:
            return Answered(sample_id=sample.id, text="", error="a likelihood compares choices: this sample has none")
        examples = self.examples.choose(sample)
        after = self.template.continuations(sample.choices)
        contexts = [self.template.text(sample, examples)]
        if self.length == "prior":
            nothing = Sample(id=sample.id, input="", choices=sample.choices, metadata=sample.metadata)
            contexts.append(self.template.text(nothing, examples))
        pairs = [Pair(context, one) for context in contexts for one in after]
        found: dict[int, Likelihood] = dict(self.model.likelihoods(pairs))
        scored = [found[place] for place in range(len(pairs))]
        worth = self._worth(scored, after)
        shares = np.exp(worth - worth.max())
        best = int(worth.argmax())
        joules = Quantity.exact(0.0, "counter")
        for one in scored:
            joules = joules + one.usage.energy_joules
        prompt = [one.usage.prompt_tokens for one in scored]
        told = "\n".join(f"{one.nats:.4f}{text}" for one, text in zip(scored, after, strict=False))
        return Answered(
            sample_id=sample.id,
            text=sample.choices[best],
            prompt_tokens=None if any(one is None for one in prompt) else sum(one or 0 for one in prompt),
            completion_tokens=0,
            seconds=sum(one.seconds for one in scored),
            energy_joules=joules,
            calls=(Call(messages=[{"role": "user", "content": contexts[0]}], text=told, cached=scored[0].cached),),
            confidence=float(shares[best] / shares.sum()),
            details={"nats": {name: one.nats for name, one in zip(sample.choices, scored, strict=False)}},
        )

    def _worth(self, scored: Sequence[Likelihood], after: Sequence[str]) -> np.ndarray:
        """(choices,) what they are compared by."""
        nats = np.array([one.nats for one in scored])
        if self.length == "prior":
            return nats[: len(after)] - nats[len(after) :]
        if self.length == "tokens":
            return nats / np.array([one.tokens for one in scored])
        if self.length == "bytes":
            return nats / np.array([len(one.encode("utf-8", "replace")) for one in after])
        return nats


def open_likelihood(
    template: PromptTemplate,
    model: LikelihoodModel,
    *,
    train: Sequence[Sample] = (),
    embed: Embed | None = None,
    length: Length = "none",
) -> ByLikelihood:
    """A prompt as an answerer by likelihood; its examples are chosen from `train`."""
    return ByLikelihood(template, model, chooser(template, train, embed), length=length)
