"""What does not fit is refused by name, before anything is read."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from bloomery.core.errors import ConfigError
from bloomery.training import TrainConfig
from bloomery.training.building import FAMILIES, NetConfig
from bloomery.training.picture_building import PICTURE_FAMILIES
from bloomery.training.suitable import USED, check, check_net, refuse_net

TEXTS = SimpleNamespace(kind="corpus", name="texts", path=Path("nowhere"))
PICTURES = SimpleNamespace(kind="pictures", name="pictures", path=Path("nowhere"))


def test_every_family_has_its_fields():
    known = {field.name for field in fields(NetConfig)}
    families = {one for table in (FAMILIES, PICTURE_FAMILIES) for row in table.values() for one in row}
    assert families == set(USED) and all(set(names) <= known for names in USED.values())
    assert known - {"family"} == {name for names in USED.values() for name in names}


@pytest.mark.parametrize(
    ("objective", "net", "key"),
    [
        ("sequence", {"family": "t5", "context": "dot"}, "context"),
        ("sequence", {"family": "gru", "num_attention_heads": 4}, "num_attention_heads"),
        ("classes", {"family": "mean", "num_hidden_layers": 2}, "num_hidden_layers"),
        ("masked", {"family": "bert", "local_attention": 16}, "local_attention"),
        ("causal", {"image_size": 64}, "image_size"),
    ],
)
def test_a_size_that_the_family_does_not_have(objective, net, key):
    with pytest.raises(ConfigError, match=f'"train.net.{key}" means nothing'):
        check(TrainConfig(objective=objective, net=NetConfig(**net)), TEXTS)  # type: ignore[arg-type]


def test_what_the_family_has_passes():
    assert check_net("sequence", NetConfig(family="gru", context="dot", embedding_size=8), pictures=False) == "gru"
    assert check_net("classes", NetConfig(family="conv", image_size=64), pictures=True) == "conv"
    assert check_net("classes", NetConfig(family="conv", hidden_size=64), pictures=False) == "conv"
    with pytest.raises(ConfigError, match="hidden_size"):
        check_net("classes", NetConfig(family="conv", hidden_size=64), pictures=True)


def test_families_and_losses():
    with pytest.raises(ConfigError, match="'mean' cannot be trained as 'tags'"):
        check(TrainConfig(objective="tags", net=NetConfig(family="mean")), TEXTS)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="sigmoid") as caught:
        check(TrainConfig(objective="contrastive", contrastive="sigmoid"), PICTURES)  # type: ignore[arg-type]
    assert "siglip" in caught.value.hint
    config = TrainConfig(objective="contrastive", contrastive="sigmoid", net=NetConfig(family="siglip"))
    check(config, PICTURES)  # type: ignore[arg-type]


def test_a_clip_to_start_from_has_no_sigmoid(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    start = SimpleNamespace(path=tmp_path)
    with pytest.raises(ConfigError, match="sigmoid"):
        check(TrainConfig(objective="contrastive", contrastive="sigmoid"), PICTURES, start)  # type: ignore[arg-type]


def test_sizes_beside_a_start():
    refuse_net({"train.objective", "train.fit.steps", "train.network"})
    with pytest.raises(ConfigError, match=r'"train\.net\.hidden_size" is for a model from random weights'):
        refuse_net({"train.fit.steps", "train.net.hidden_size"})
