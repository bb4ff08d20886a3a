"""Naming: every rule is undone by its other half."""

from __future__ import annotations

import pytest
import torch

from bloomery.core.errors import DataError
from bloomery.models.naming import Names, Rule, interleaved, renamed, stacked, transposed

RULES: list[tuple[Rule, torch.Tensor]] = [
    (renamed("a", "x"), torch.arange(6.0).view(2, 3)),
    (transposed("a", "x"), torch.arange(6.0).view(2, 3)),
    (stacked("a", ("x", "y"), (2, 4)), torch.arange(18.0).view(6, 3)),
    (stacked("a", ("x", "y"), (2, 4)), torch.arange(6.0)),
    (stacked("a", ("x", "y"), (2, 4), transpose=True), torch.arange(18.0).view(3, 6)),
    (interleaved("a", ("x", "y", "z"), 2), torch.arange(36.0).view(12, 3)),
    (interleaved("a", ("x", "y", "z"), 2), torch.arange(12.0)),
]


@pytest.mark.parametrize(("rule", "tensor"), RULES)
def test_back_and_forth(rule: Rule, tensor: torch.Tensor):
    names = Names([rule])
    ours = dict(names.read("a", tensor))
    assert list(ours) == list(rule.ours)
    back = names.write(ours)
    assert torch.equal(back["a"], tensor) and back["a"].is_contiguous()


def test_interleaved_takes_each_heads_part():
    read = dict(Names([interleaved("a", ("q", "k", "v"), 2)]).read("a", torch.arange(12)))
    assert {name: part.tolist() for name, part in read.items()} == {
        "q": [0, 1, 6, 7],
        "k": [2, 3, 8, 9],
        "v": [4, 5, 10, 11],
    }


def test_a_name_without_a_rule_stays():
    names = Names([renamed("a", "x")])
    assert dict(names.read("b", torch.ones(1))) == {"b": torch.ones(1)}
    assert set(names.write({"b": torch.ones(1), "x": torch.ones(1)})) == {"a", "b"}


def test_our_name_in_their_file_is_an_error():
    with pytest.raises(DataError, match="'x'"):
        list(Names([renamed("a", "x")]).read("x", torch.ones(1)))


def test_a_tensor_that_does_not_come_apart():
    with pytest.raises(DataError, match=r"\(5,\)"):
        list(Names([stacked("a", ("x", "y"), (2, 4))]).read("a", torch.ones(5)))
    with pytest.raises(DataError):
        list(Names([interleaved("a", ("x", "y"), 3)]).read("a", torch.ones(4)))


def test_an_optional_part_leaves_its_rule_out():
    assert Names([stacked("a", ("x", "y"), (1, 1))]).write({"z": torch.ones(1)}).keys() == {"z"}


def test_base_prefix():
    names = Names([renamed("base.a", "x")], base_prefix="base.")
    assert dict(names.read("a", torch.ones(1))).keys() == dict(names.read("base.a", torch.ones(1))).keys() == {"x"}
