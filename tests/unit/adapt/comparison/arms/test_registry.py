"""Every name of an arm has one, which keeps to what an arm is."""

from __future__ import annotations

import inspect

import pytest

from bloomery.adapt.comparison.arm import Arm
from bloomery.adapt.comparison.arms.registry import arm_named
from bloomery.adapt.comparison.task import ARMS, TaskConfig
from bloomery.core.errors import ConfigError


def test_every_arm_is_there():
    assert [arm_named(name).name for name in ARMS] == list(ARMS)
    assert [name for name in ARMS if not arm_named(name).asks] == ["majority", "classic"]


@pytest.mark.parametrize("name", ARMS)
def test_each_has_the_parts_of_an_arm(name):
    for part in ("unfit", "tune", "opened"):
        wanted = list(inspect.signature(getattr(Arm, part)).parameters)[1:]
        assert list(inspect.signature(getattr(arm_named(name), part)).parameters) == wanted
    assert TaskConfig(samples="x", arms=(name,)).arms == (name,)


def test_a_name_that_is_none_is_told_with_the_nearest():
    with pytest.raises(ConfigError, match='unknown arm "few-shots"') as error:
        arm_named("few-shots")
    assert error.value.hint and "few-shot" in error.value.hint
