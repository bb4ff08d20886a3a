"""Naming: how the tensors of a published file become the parameters of a model here, and back.

A family lists a `Rule` for each tensor that is called or laid out otherwise than here; every other tensor keeps its
name. This module does not know files or families.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import DataError


@dataclass(frozen=True)
class Rule:
    """The tensor `theirs` holds the parameters `ours`; `read` takes it apart and `write` puts it together again."""

    theirs: str
    ours: tuple[str, ...]
    read: Callable[[Tensor], Sequence[Tensor]]
    write: Callable[[Sequence[Tensor]], Tensor]
    transposes: bool = False
    """Whether the file keeps the matrix the other way round (input, output)."""


def renamed(theirs: str, ours: str) -> Rule:
    """The same tensor under another name."""
    return Rule(theirs, (ours,), lambda tensor: (tensor,), lambda parts: parts[0])


def transposed(theirs: str, ours: str) -> Rule:
    """A matrix that is kept the other way round (input, output), as GPT-2's are."""
    return Rule(theirs, (ours,), lambda tensor: (tensor.t(),), lambda parts: parts[0].t(), transposes=True)


def stacked(theirs: str, ours: Sequence[str], sizes: Sequence[int], *, transpose: bool = False) -> Rule:
    """Parameters that lie one after the other along the output dimension, `sizes` rows each; `transpose` for
    files that keep matrices the other way round."""
    rows = list(sizes)

    def read(tensor: Tensor) -> Sequence[Tensor]:
        return (tensor.t() if transpose else tensor).split(rows, dim=0)

    def write(parts: Sequence[Tensor]) -> Tensor:
        whole = torch.cat(list(parts), dim=0)
        return whole.t() if transpose else whole

    return Rule(theirs, tuple(ours), read, write, transposes=transpose)


def interleaved(theirs: str, ours: Sequence[str], heads: int) -> Rule:
    """Parameters of equal shape that lie head by head: the first head's part of each, then the second's, ..."""
    count = len(ours)

    def read(tensor: Tensor) -> Sequence[Tensor]:
        parts = tensor.unflatten(0, (heads, count, -1)).unbind(1)
        return [part.flatten(0, 1) for part in parts]

    def write(parts: Sequence[Tensor]) -> Tensor:
        return torch.stack([part.unflatten(0, (heads, -1)) for part in parts], dim=1).flatten(0, 2)

    return Rule(theirs, tuple(ours), read, write)


class Names:
    """The rules of one model, found by the name of either side.

    `base_prefix` is what a file that was saved without the model's head leaves out of every name ("transformer.").
    """

    def __init__(self, rules: Iterable[Rule] = (), *, base_prefix: str = "") -> None:
        self.rules = tuple(rules)
        self._base_prefix = base_prefix
        self._by_theirs = {rule.theirs: rule for rule in self.rules}
        self._ours = {name for rule in self.rules for name in rule.ours}

    def read(self, theirs: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Our parameters out of one tensor of theirs. A name that has no rule stays, unless a rule gives it another
        meaning; DataError for that, and for a tensor that cannot be taken apart."""
        rule = self._by_theirs.get(theirs) or self._by_theirs.get(self._base_prefix + theirs)
        if rule is None:
            if theirs in self._ours:
                raise DataError(f"unexpected tensor {theirs!r}", hint="is config.json of another model?")
            yield theirs, tensor
            return
        try:
            parts = rule.read(tensor)
        except (RuntimeError, ValueError) as error:
            raise DataError(
                f"{theirs} has shape {tuple(tensor.shape)}, which config.json does not allow for",
                hint="is config.json of another model?",
            ) from error
        yield from zip(rule.ours, parts, strict=True)

    def write(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Their tensors, contiguous, out of all of our parameters; those that a rule names but the model lacks
        (an optional bias) leave the rule out."""
        tensors = {name: tensor for name, tensor in parameters.items() if name not in self._ours}
        for rule in self.rules:
            if all(name in parameters for name in rule.ours):
                tensors[rule.theirs] = rule.write([parameters[name] for name in rule.ours])
        return {name: tensor.contiguous() for name, tensor in tensors.items()}
