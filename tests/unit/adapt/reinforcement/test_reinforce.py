"""Reinforcement as a stage: it learns what is rewarded, resumes exactly, and says what is wrong."""

from __future__ import annotations

import pytest

from bloomery.adapt.reinforcement import ReinforceConfig, reinforce
from bloomery.adapt.reinforcement.config import ReinforceFitConfig
from bloomery.core.errors import ConfigError, DataError

ROWS = [{"prompt": f"Say {n}", "answer": n} for n in range(24)]
FIT = ReinforceFitConfig(steps=10, batch_rows=32, learning_rate=2e-2, device="cpu", validations=1, keep_best=False)


class Letters:
    """The share of an answer that is letters e, o and t."""

    name = "letters"

    def __call__(self, answer, row):
        return sum(one in "eot" for one in answer) / 10


def _config(**changes) -> ReinforceConfig:
    settings = {"rewards": ("number*0",), "weights": "full", "max_new_tokens": 6, "fit": FIT, **changes}
    return ReinforceConfig(**settings)


@pytest.mark.parametrize("changes", [{}, {"iterations": 2, "kl_weight": 0.01, "scale": "none", "average": "constant"}])
def test_it_learns_and_resumes_exactly(make_model, tmp_path, interrupted, changes):
    model, config, own = make_model(), _config(**changes), [Letters()]
    made = reinforce(model, ROWS, config=config, rewards=own, workspace=tmp_path / "a")
    curve = [row[1] for row in made.metrics["reward_curve"]]
    assert len(curve) == 10 // config.iterations and made.parents == (model.id,)
    if not changes:  # one step a draw, scaled: it learns within ten
        assert curve[-1] > 1.5 * curve[0]
    interrupted(lambda: reinforce(model, ROWS, config=config, rewards=own, workspace=tmp_path / "b"), 5)
    resumed = reinforce(model, ROWS, config=config, rewards=own, workspace=tmp_path / "b")
    assert resumed.metrics["resumed"] and resumed.metrics["reward_curve"] == made.metrics["reward_curve"]
    assert (resumed.path / "model.safetensors").read_bytes() == (made.path / "model.safetensors").read_bytes()


def test_adapters_learn_as_well_and_the_base_is_their_reference(make_model, rows_file, tmp_path):
    config = _config(weights="lora", kl_weight=0.05)
    made = reinforce(make_model(), rows_file(ROWS), config=config, rewards=[Letters()], workspace=tmp_path)
    curve = made.metrics["reward_curve"]
    assert made.kind == "adapter" and curve[-1][1] > curve[0][1]
    assert curve[0][5] == pytest.approx(0.0, abs=1e-6) and curve[-1][5] > 1e-4  # distance from the base


def _no_source(thing):
    raise OSError


def test_mistakes(make_model, rows_file, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no file"):
        reinforce(make_model(), tmp_path / "none", workspace=tmp_path)
    with pytest.raises(DataError, match="room"):
        reinforce(make_model(), ROWS, config=_config(max_new_tokens=1000), workspace=tmp_path)
    with pytest.raises(DataError, match="no answer to compare"):
        reinforce(make_model(), [{"prompt": "a"}, {"prompt": "b"}], config=_config(), workspace=tmp_path)
    with pytest.raises(DataError, match="prompt"):
        reinforce(make_model(), rows_file([{"answer": 5}]), config=_config(), workspace=tmp_path)
    nameless = type("Nameless", (), {"name": "nameless", "__call__": lambda self, answer, row: 0.0})()
    monkeypatch.setattr("inspect.getsource", _no_source)
    with pytest.raises(ConfigError, match="source"):
        reinforce(make_model(), ROWS, config=_config(), rewards=[nameless], workspace=tmp_path)
