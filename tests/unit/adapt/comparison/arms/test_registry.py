"""Every name of an arm has one."""

from __future__ import annotations

from bloomery.adapt.comparison.arms.registry import arm_named
from bloomery.adapt.comparison.task import ARMS


def test_every_arm_is_there():
    assert [arm_named(name).name for name in ARMS] == list(ARMS)
    assert [name for name in ARMS if not arm_named(name).asks] == ["majority", "classic"]
