"""Label model: the probable label of each document from what several annotators said, without knowing the truth.

Annotators whose answers agree with those of others are believed more. All models are fitted by expectation
maximisation, and take annotators to err independently of each other given the truth:

- "firing": each annotator has a chance of giving each label, or of saying nothing, for each true label. For labelling
  functions, most of which know one label and say nothing of most documents: what they are silent of tells the fit whom
  they know. Labels are then given by what was said alone. (Parameters and rule as in Ratner et al. 2019, arXiv
  1810.02840.)
- "confusion": the same, with silence saying nothing (Dawid and Skene 1979). For people and models, who answer what they
  are asked.
- "accuracy": an annotator is right with one probability, else gives any other label alike (Ratner et al. 2016, arXiv
  1605.07723). For few votes; where functions know one label each and one label is rare, "all are the other" fits best.
- "majority": all alike, nothing fitted.

Annotators that copy each other break the assumption: they look better than they are. One that seems to be right less
often than chance says that the fit went astray. This module does not know documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bloomery.core.errors import ConfigError, DataError

ModelName = Literal["firing", "confusion", "accuracy", "majority"]
_ROUNDS = 1000
_TOLERANCE = 1e-8
_PRIOR = (4.0, 2.0)
"""Right and wrong answers that each annotator of "accuracy" is taken to have given before: better than chance."""
_SMOOTHING = 0.01
Real = NDArray[np.float64]


@dataclass(frozen=True)
class LabelModel:
    """`probabilities(votes)` (D, K) of D documents; `accuracies` (F,) of what the annotators said, as estimated;
    `confusion` (F, K, K), annotator, truth, said; a row of "firing" leaves room for silence. `balance` (K,)."""

    name: ModelName
    balance: Real
    confusion: Real
    accuracies: Real
    rounds: int
    converged: bool

    def probabilities(self, votes: NDArray[Any]) -> Real:
        """Rows add up to 1; one without any votes is `balance`."""
        if self.name == "majority":
            return majority(votes, len(self.balance))
        different, which = np.unique(votes, axis=0, return_inverse=True)
        said = _indicators(different, len(self.balance))
        return _posterior(said, self.balance, self.confusion)[0][which.reshape(-1)]


def majority(votes: NDArray[Any], num_labels: int) -> Real:
    """Each label's share of the votes, (D, K); equal shares where there are none."""
    different, which = np.unique(votes, axis=0, return_inverse=True)
    counts = _indicators(different, num_labels).sum(1)[which.reshape(-1)]
    total = counts.sum(1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / num_labels)


def fit_label_model(
    votes: NDArray[Any], num_labels: int, *, name: ModelName = "firing", balance: Any = None
) -> LabelModel:
    """Fit to votes (D, F), places of labels or -1. `balance` (K,), if it is known, is kept; else it is estimated from
    the documents that have votes. The same votes give the same model. DataError if nobody says anything."""
    if votes.ndim != 2 or not votes.size or (votes < 0).all():
        raise DataError("no annotator says anything of any document", hint="more or broader labelling functions")
    if votes.max() >= num_labels:
        raise ConfigError(f"a vote for label {votes.max()} of {num_labels}")
    known = None if balance is None else _checked_balance(balance, num_labels)
    if name != "firing":
        votes = votes[(votes >= 0).any(1)]
    # Documents with the same votes are one, so that a round costs what is different, not what there is.
    different, counts = np.unique(votes, axis=0, return_counts=True)
    said, weights = _indicators(different, num_labels), counts.astype(np.float64)
    posterior = _first_guess(said, weights)
    outcomes = said
    if name == "firing":
        outcomes = np.concatenate([said, 1 - said.sum(2, keepdims=True)], 2)
    last, rounds, converged = -np.inf, 0, False
    shares, confusion = _maximised(outcomes, posterior, weights, known, name)
    while name != "majority" and rounds < _ROUNDS and not converged:
        rounds += 1
        posterior, likelihood = _posterior(outcomes, shares, confusion)
        total = float(likelihood @ weights) + _log_prior(confusion, name)
        converged = abs(total - last) <= _TOLERANCE * max(1.0, abs(total))
        last = total
        shares, confusion = _maximised(outcomes, posterior, weights, known, name)
    confusion = confusion[:, :, :num_labels]
    agreed = np.einsum("dfk,dk,d->f", said, posterior, weights)
    answered = np.einsum("dfk,d->f", said, weights)
    accuracies = np.where(answered > 0, agreed / np.maximum(answered, 1), np.nan)
    return LabelModel(name, shares, confusion, accuracies, rounds, converged or name == "majority")


def _first_guess(said: Real, weights: Real) -> Real:
    """Each document's shares of votes, (D, K); those of all others where it has none."""
    votes = said.sum(1)
    total = votes.sum(1, keepdims=True)
    shares = votes / np.maximum(total, 1)
    spoken = total[:, 0] > 0
    overall = weights[spoken] @ shares[spoken] / weights[spoken].sum()
    return np.where(spoken[:, None], shares, overall)


def _indicators(votes: NDArray[Any], num_labels: int) -> Real:
    """(D, F, K): 1 for what was said."""
    return (votes[:, :, None] == np.arange(num_labels)).astype(np.float64)


def _posterior(said: Real, shares: Real, confusion: Real) -> tuple[Real, Real]:
    """(D, K), and each document's log-likelihood (D,)."""
    with np.errstate(divide="ignore"):
        logs = np.log(shares)[None] + np.einsum("dfl,fkl->dk", said, np.log(np.maximum(confusion, 1e-300)))
    top = logs.max(1, keepdims=True)
    scaled = np.exp(logs - top)
    total = scaled.sum(1, keepdims=True)
    return scaled / total, (top + np.log(total))[:, 0]


def _maximised(said: Real, posterior: Real, weights: Real, known: Real | None, name: ModelName) -> tuple[Real, Real]:
    """Shares of labels (K,) and confusions (F, K, outcomes) that the posterior makes most probable."""
    labels = posterior.shape[1]
    weighted = posterior * weights[:, None]
    shares = known if known is not None else (weighted.sum(0) + _SMOOTHING) / (weights.sum() + labels * _SMOOTHING)
    counts = np.einsum("dk,dfl->fkl", weighted, said)
    if name in ("firing", "confusion"):
        counts = counts + _SMOOTHING
        return shares, counts / counts.sum(2, keepdims=True)
    right = np.trace(counts, axis1=1, axis2=2)
    given = counts.sum((1, 2))
    accuracy = (right + _PRIOR[0] - 1) / (given + sum(_PRIOR) - 2)
    wrong = (1 - accuracy) / max(1, labels - 1)
    confusion = np.repeat(wrong[:, None, None], labels, 1).repeat(labels, 2)
    places = np.arange(labels)
    confusion[:, places, places] = accuracy[:, None]
    return shares, confusion


def _log_prior(confusion: Real, name: ModelName) -> float:
    """What the smoothing adds to the likelihood that rises from round to round."""
    if name in ("firing", "confusion"):
        return float(_SMOOTHING * np.log(confusion).sum())
    accuracy = confusion[:, 0, 0]
    return float(
        ((_PRIOR[0] - 1) * np.log(accuracy) + (_PRIOR[1] - 1) * np.log(np.maximum(1 - accuracy, 1e-300))).sum()
    )


def _checked_balance(balance: Any, num_labels: int) -> Real:
    shares = np.asarray(balance, np.float64)
    if shares.shape != (num_labels,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
        raise ConfigError(f"the balance should be {num_labels} shares that add up to 1", hint="balance = [0.9, 0.1]")
    return shares


def summary(votes: NDArray[Any], num_labels: int, gold: NDArray[Any] | None = None) -> list[dict[str, Any]]:
    """Of each annotator: which labels it gives, the share of documents on which it says something (coverage), on which
    another does too (overlaps), on which another says something else (conflicts); and its accuracy where `gold` (D,),
    places of labels or -1, is known."""
    there = votes >= 0
    rows: list[dict[str, Any]] = []
    for place in range(votes.shape[1]):
        own, mine = votes[:, place], there[:, place]
        others = np.delete(there, place, 1).any(1)
        differs = (np.delete(votes, place, 1) != own[:, None]) & np.delete(there, place, 1)
        row: dict[str, Any] = {
            "labels": sorted({int(one) for one in own[mine]}),
            "coverage": float(mine.mean()),
            "overlaps": float((mine & others).mean()),
            "conflicts": float((mine & differs.any(1)).mean()),
        }
        if gold is not None:
            judged = mine & (gold >= 0)
            row["judged"] = int(judged.sum())
            row["accuracy"] = float((own[judged] == gold[judged]).mean()) if judged.any() else None
        rows.append(row)
    return rows
