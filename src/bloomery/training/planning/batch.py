"""Batch: how many tokens a step reads, from how many the run will read, and what that makes of the learning rates.

    B* = 0.58 D^0.571 tokens            (Step Law: Li et al. 2025, arXiv 2503.04715, of runs from 2B tokens on)
    rate = tuned rate x sqrt(B / B*)    (square-root scaling: Malladi et al. 2022, arXiv 2205.10287)

With the batch that the rule gives rates stay as they were tuned; a larger one, which takes fewer steps, wants larger
ones. On the two recorded grids of 90,000 to 180,000 tokens (experiments/results/sweep_grid_*.json) the rule lies within
half of the best of six rates; larger models bear less, so it only lowers them. No batch is below 4,096 tokens: there
the optimiser's own work outweighs what is learnt. This module does not know seconds, memory, or how much text there is.
"""

from __future__ import annotations

import math

LEAST_TOKENS = 4096
_FACTOR, _EXPONENT = 0.58, 0.571
_LOWEST, _HIGHEST = 0.5, 1.0
"""Not above where they were tuned: 80 steps on the documentation of Python, of batches five times the rule's, ended
with 2.9M parameters .4% higher at 1.25 and 1.6% higher at 2 times the rates, with .4M .5% lower at 2 times."""


def best_batch_tokens(run_tokens: float) -> float:
    """Tokens of a batch by the rule, for a run that reads so many."""
    return _FACTOR * max(1.0, run_tokens) ** _EXPONENT


def batch_rows(run_tokens: float, context_length: int) -> int:
    """Rows of a batch for a run that reads so many tokens: a power of two."""
    return max(1, 2 ** round(math.log2(max(LEAST_TOKENS, best_batch_tokens(run_tokens)) / context_length)))


def batch_rows_of_steps(steps: int, context_length: int) -> int:
    """Rows of a batch for a run of so many steps, whose tokens the batch decides: B = 0.58 (steps B)^0.571."""
    batch = (_FACTOR * steps**_EXPONENT) ** (1 / (1 - _EXPONENT))
    return batch_rows(steps * batch, context_length)


def rate_scale(batch_tokens: float, run_tokens: float) -> float:
    """What the tuned learning rates are multiplied by."""
    return min(_HIGHEST, max(_LOWEST, math.sqrt(batch_tokens / best_batch_tokens(run_tokens))))
