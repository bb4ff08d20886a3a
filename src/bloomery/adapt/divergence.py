"""Divergence between two models' next-token distributions, a few rows of logits at a time.

The generalised Jensen-Shannon divergence (Agarwal et al. 2023, arXiv 2306.13649, eq. 1) of a teacher P and a student Q:
beta KL(P || M) + (1 - beta) KL(Q || M) with M = beta P + (1 - beta) Q; its limits are KL(P || Q) at beta 0 and KL(Q ||
P) at beta 1. (N, V) is never in memory. This module does not know whose hidden states they are. Shapes: N tokens, E
hidden of the student, F of the teacher, V vocabulary, K candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bloomery.adapt.log_probabilities import chunks, logits_of, remade
from bloomery.models import Decoder


def divergence(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """(N,) nats, of log-probabilities (N, V)."""
    if beta == 0.0:
        return _kl(teacher, student)
    if beta == 1.0:
        return _kl(student, teacher)
    mixture = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, mixture) + (1 - beta) * _kl(student, mixture)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first || second); what has no probability under the first adds nothing."""
    gaps = torch.where(first == -torch.inf, 0.0, first - second)
    return (first.exp() * gaps).sum(-1)


def model_divergence(
    student: Decoder,
    hidden: Tensor,
    teacher: Decoder,
    teacher_hidden: Tensor,
    *,
    beta: float,
    temperature: float = 1.0,
    teacher_weight: Tensor | None = None,
) -> Tensor:
    """(N,) nats between what both models' heads make of hidden (N, E) and teacher_hidden (N, F).

    Gradients flow to the student's hidden states and head. A vocabulary that is padded further than the other one is
    cut to the shorter. `teacher_weight` (V, F) is the teacher's output head, where that is no longer what it was.
    """
    size = min(student.config.vocab_size, teacher.config.vocab_size)

    def part(mine: Tensor, weight: Tensor, its: Tensor, its_weight: Tensor) -> Tensor:
        ours = logits_of(mine, weight, student.output_softcap, temperature)[:, :size]
        theirs = logits_of(its, its_weight, teacher.output_softcap, temperature)[:, :size]
        return divergence(theirs.log_softmax(-1), ours.log_softmax(-1), beta)

    weight = student.output_weight
    its_weight = (teacher.output_weight if teacher_weight is None else teacher_weight).detach()
    found = [
        remade(part, hidden[rows], weight, teacher_hidden[rows], its_weight)
        for rows in chunks(len(hidden), size, hidden.device)
    ]
    return torch.cat(found) if found else hidden.new_zeros(0).float()


def candidate_divergence(
    student: Decoder, hidden: Tensor, ids: Tensor, logprobs: Tensor, *, beta: float, temperature: float = 1.0
) -> Tensor:
    """(N,) nats, from the teacher's K likeliest tokens alone: `ids` and `logprobs` (N, K), at the same temperature.

    All other tokens count as one, for both models: a lower bound of the whole divergence, by the data-processing
    inequality, and equal to it where K is the vocabulary.
    """

    def part(mine: Tensor, weight: Tensor, candidates: Tensor, its: Tensor) -> Tensor:
        ours = logits_of(mine, weight, student.output_softcap, temperature).log_softmax(-1)
        chosen = ours.gather(1, candidates)
        whole = candidates.size(1) >= ours.size(1)
        pair = (its, chosen) if whole else (_with_rest(its), _with_rest(chosen))
        return divergence(*pair, beta)

    weight = student.output_weight
    found = [
        remade(part, hidden[rows], weight, ids[rows], logprobs[rows])
        for rows in chunks(len(hidden), weight.size(0), hidden.device)
    ]
    return torch.cat(found) if found else hidden.new_zeros(0).float()


def _with_rest(logprobs: Tensor) -> Tensor:
    """(N, K) -> (N, K + 1): the logarithm of what is left to 1; float32 cannot tell less than about 1e-7."""
    rest = torch.log((1 - logprobs.exp().sum(-1, keepdim=True)).clamp_min(1e-7))
    return torch.cat((logprobs, rest), dim=-1)


@torch.no_grad()
def candidates_of(model: Decoder, hidden: Tensor, count: int, *, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The `count` likeliest tokens at each of hidden (N, E): ids and log-probabilities (N, K), at the temperature."""
    ids, logprobs = [], []
    for rows in chunks(len(hidden), model.config.vocab_size, hidden.device):
        logits = logits_of(hidden[rows], model.output_weight, model.output_softcap, temperature)
        best = logits.log_softmax(-1).topk(min(count, logits.size(1)))
        ids.append(best.indices)
        logprobs.append(best.values)
    return torch.cat(ids), torch.cat(logprobs)
