"""PersonalConfig: what is done with each kind."""

from __future__ import annotations

import pytest

from bloomery.core.errors import ConfigError
from bloomery.corpus.personal_config import PersonalConfig


def test_nothing_is_done_unless_asked():
    assert not PersonalConfig().active and PersonalConfig().actions == {}
    assert not PersonalConfig(seed=3).active


def test_all_is_for_those_that_say_nothing():
    actions = PersonalConfig(all="mask", email="drop").actions
    assert actions["email"] == "drop" and actions["secret"] == "mask" and len(actions) == 7
    assert PersonalConfig(ip="replace").actions == {"ip": "replace"}


def test_a_seed_out_of_range():
    with pytest.raises(ConfigError, match="seed"):
        PersonalConfig(seed=-1)
