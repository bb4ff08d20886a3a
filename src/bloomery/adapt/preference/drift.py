"""Drift: how far a policy has gone from the model that it began with: KL(policy || reference) in nats a token.

Exact at each token, over the whole vocabulary, behind the words of answers that are given: not of what the policy would
write itself. What the reference made of them is kept as hidden states, so that no second model is in memory; an output
head that is trained is copied. This module does not know losses. Shapes: N tokens, E hidden_size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bloomery.adapt.divergence import model_divergence
from bloomery.adapt.log_probabilities import labelled
from bloomery.adapt.preference.encoded import Completion, rows_of
from bloomery.core.errors import DataError
from bloomery.models import Decoder
from bloomery.training.objective import Validation, evaluating

FIGURE = "kl_nats_per_token"
_TOKENS = 4096
"""Of answers, at most: their hidden states stay in memory."""
_TOKENS_A_BATCH = 8192


class Drift:
    """`Drift(model, answers)` asks the model as it is now, `measure(model)` compares it as it has become."""

    def __init__(
        self, model: Decoder, answers: Sequence[Completion], *, pad_id: int = 0, tokens: int = _TOKENS
    ) -> None:
        """The first answers whose tokens are no more than `tokens`, and one at least. DataError for none."""
        if not answers:
            raise DataError("there is no answer to measure a divergence on")
        count, found = 0, 0
        while count < len(answers) and (not count or found + len(answers[count].completion) <= tokens):
            found += len(answers[count].completion)
            count += 1
        self.answers = sorted(answers[:count], key=len)
        self.tokens, self._pad_id = found, pad_id
        weight = model.output_weight
        with torch.no_grad():
            self._weight = weight.detach().clone() if weight.requires_grad else weight.detach()
        self._hidden = list(self._states(model))

    def measure(self, model: Decoder) -> float:
        """Mean nats of a token, in float32 whatever the precision of training; 0 where nothing has changed."""
        pairs = zip(self._states(model), self._hidden, strict=True)
        how = {"beta": 1.0, "teacher_weight": self._weight}
        with torch.no_grad():
            found = [model_divergence(model, mine, model, its, **how).double().sum() for mine, its in pairs]
            return float(torch.stack(found).sum()) / self.tokens

    def beside(self, found: Validation, model: Decoder) -> Validation:
        """A validation with the figure."""
        return replace(found, values={**found.values, FIGURE: self.measure(model)})

    def _states(self, model: Decoder) -> Iterator[Tensor]:
        """(N, E) of some answers at a time."""
        device = model.output_weight.device
        start = 0
        while start < len(self.answers):
            stop = start + 1
            while stop < len(self.answers) and len(self.answers[stop]) * (stop - start + 1) <= _TOKENS_A_BATCH:
                stop += 1
            input_ids, labels = (
                torch.from_numpy(one).to(device) for one in rows_of(self.answers[start:stop], self._pad_id)
            )
            with evaluating(model):
                kept = labelled(labels.flatten())
                hidden = model.hidden_states(input_ids).flatten(0, 1).index_select(0, kept)
            yield hidden
            start = stop
