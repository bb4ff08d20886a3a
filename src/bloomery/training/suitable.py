"""What fits what: corpus, objective, family, sizes and loss, refused by name before anything is read.

This module does not know data, nor how a model is built.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import TYPE_CHECKING

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, nearest
from bloomery.corpus import PICTURES
from bloomery.models.weights import read_json
from bloomery.training.building import DECODERS, ENCODERS, FAMILIES, RECURRENT, NetConfig
from bloomery.training.picture_building import PICTURE_FAMILIES

if TYPE_CHECKING:
    from bloomery.training.train_config import TrainConfig

_LAYERS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_SEEING = (*_LAYERS, "image_size", "patch_size")
_CELLS = ("hidden_size", "num_hidden_layers", "context", "bidirectional", "embedding_size", "dropout")
USED: dict[str, tuple[str, ...]] = {
    **dict.fromkeys((*DECODERS, *ENCODERS), _LAYERS),
    "bloomery": (*_LAYERS, "value_embeddings", "bigram_vocab_size"),
    "modernbert": (*_LAYERS, "local_attention"),
    "t5": (*_LAYERS, "dropout"),
    **dict.fromkeys(RECURRENT, _CELLS),
    "mean": ("hidden_size", "intermediate_size", "dropout"),
    "conv": ("hidden_size", "dropout"),
    **dict.fromkeys(("clip", "siglip", "llava", "vit"), _SEEING),
}
"""The fields of NetConfig, beside the family, that a family has."""
_OF_PICTURES = {"conv": ("image_size", "dropout")}
"""Where a family of that name reads pictures and has others."""


def check(config: TrainConfig, corpus: Artifact, start: Artifact | None = None) -> None:
    """Whether a config can be trained on a corpus, from random weights or from `start`. ConfigError names the key."""
    pictures = corpus.kind == PICTURES
    known = PICTURE_FAMILIES if pictures else FAMILIES
    if config.objective not in known:
        raise ConfigError(
            f"{corpus.name} is a corpus of {'pictures' if pictures else 'texts'}, which "
            f"{config.objective!r} cannot be learnt from",
            hint="objectives for it: " + ", ".join(known),
        )
    if config.target_vocab_size and (config.objective != "sequence" or config.net.family not in RECURRENT):
        raise ConfigError(
            '"train.target_vocab_size" is for recurrent nets that learn sequences',
            hint="--objective sequence --set train.net.family=gru",
        )
    if start is None:
        family = check_net(config.objective, config.net, pictures=pictures)
    else:
        family = str(read_json(start.path / "config.json").get("model_type"))
    if config.objective == "contrastive" and config.contrastive == "sigmoid" and family == "clip":
        raise ConfigError(
            '"train.contrastive=sigmoid" needs a model with a bias, which clip has not',
            hint="--set train.net.family=siglip" if start is None else "a siglip to start from",
        )


def check_net(objective: str, net: NetConfig, *, pictures: bool) -> str:
    """The family that a model from random weights will have. ConfigError for one that the objective cannot train, and
    for a size that is set but that the family does not have."""
    known = (PICTURE_FAMILIES if pictures else FAMILIES)[objective]
    family = net.family or known[0]
    if family not in known:
        where = " on pictures" if pictures else ""
        raise ConfigError(f"{family!r:.40} cannot be trained as {objective!r}{where}", hint=nearest(family, known))
    used = (_OF_PICTURES if pictures else {}).get(family, USED[family])
    for one in fields(NetConfig):
        if one.name in ("family", *used) or getattr(net, one.name) == one.default:
            continue
        having = [name for name in known if one.name in USED[name] and name != family]
        raise ConfigError(
            f'"train.net.{one.name}" means nothing to {family}',
            hint=f"of {objective} it is a setting of {', '.join(having)}"
            if having
            else f"{family} has {', '.join(used)}",
        )
    return family


def refuse_net(keys: Collection[str]) -> None:
    """`keys` are those that a recipe or an override sets, in full. A model that is there has its own sizes: ConfigError
    for the first of them that would say others."""
    for key in sorted(keys):
        if key == "train.net" or key.startswith("train.net."):
            raise ConfigError(
                f'"{key}" is for a model from random weights: one to start from has its sizes',
                hint="leave it out, or leave out --start",
            )
