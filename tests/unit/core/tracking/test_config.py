"""TrackConfig names sinks that there are."""

from __future__ import annotations

import pytest

from bloomery.core.config import from_dict
from bloomery.core.errors import ConfigError
from bloomery.core.tracking import TrackConfig


def test_known_sinks_alone():
    assert from_dict(TrackConfig, {"sinks": ["mlflow", "wandb"]}).sinks == ("mlflow", "wandb")
    with pytest.raises(ConfigError, match="cannot have 'tensorbord'") as caught:
        TrackConfig(sinks=("tensorbord",))
    assert caught.value.hint == 'did you mean "tensorboard"?'
