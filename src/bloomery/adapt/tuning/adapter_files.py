"""Adapter files: an adapter of a model written as PEFT's folder, and read again to go on training.

adapter_config.json and adapter_model.safetensors, the tensors under the family's published names; a classifier's head
beside them, as PEFT's modules_to_save are. `models.adapter` reads the same folders to compute with. This module does
not know training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from bloomery.adapt.tuning.lora import LoraLayer, add_lora, layout_of, sets_of
from bloomery.adapt.tuning.lora_config import LoraConfig
from bloomery.core.artifact import write_durably
from bloomery.core.errors import ConfigError, DataError
from bloomery.models.adapter import WEIGHTS
from bloomery.models.adapter_config import FILE, AdapterConfig
from bloomery.models.weights import as_json, read_json, read_tensors, write_tensors

_PREFIX = "base_model.model."
_SAVED = "modules_to_save"


def save_adapter(model: nn.Module, folder: str | Path, *, name: str = "default", base: str = "") -> None:
    """Write an adapter of a model (see `add_lora`) that PEFT, transformers, vLLM and `bloomery serve --adapter` read.

    `base` is what base_model_name_or_path says. Tensors are written as they are trained.
    """
    held = sets_of(model)
    if held is None:
        raise ConfigError("the model has no adapter to save")
    folder, layout = Path(folder), layout_of(model)
    folder.mkdir(parents=True, exist_ok=True)
    layers = held.layers(name)
    tensors: dict[str, Tensor] = {}
    for theirs, layer in layers.items():
        tensors |= {f"{_PREFIX}{theirs}.{key}": value.detach() for key, value in _parts(layer).items()}
    heads = _heads(model)
    tensors |= {f"{_PREFIX}{theirs}": value for theirs, value in heads.items()}
    saved = sorted({_module(key) for key in heads})
    document = held.configs[name].document(list(layers), layout.available, base=base, task=layout.task, saved=saved)
    write_tensors({key: value.cpu().contiguous().clone() for key, value in tensors.items()}, folder / WEIGHTS)
    write_durably(folder / FILE, as_json(document))


def load_adapter(
    model: nn.Module, folder: str | Path, *, name: str = "default", lora_dropout: float = 0.0
) -> list[nn.Parameter]:
    """Put the adapter of a folder on a model, to train it further or to merge it; returns what is to be trained.

    DataError for a folder that is damaged or belongs to another model.
    """
    folder = Path(folder).expanduser()
    document = read_json(folder / FILE) if (folder / FILE).is_file() else {}
    saved = document.pop(_SAVED, None) or []
    try:
        config = AdapterConfig.from_peft(document)
    except DataError as error:
        raise DataError(f"{folder / FILE}: {error}", hint=error.hint) from error
    if not (folder / WEIGHTS).is_file():
        raise DataError(f"{folder} has no {WEIGHTS}", hint="is this the folder of an adapter?")
    found = dict(read_tensors(folder / WEIGHTS))
    parameters = add_lora(model, LoraConfig.of(config, lora_dropout=lora_dropout), name=name)
    held = sets_of(model)
    assert held is not None
    where = f"{folder / WEIGHTS}"
    with torch.no_grad():
        for theirs, layer in held.layers(name).items():
            for key, parameter in _parts(layer).items():
                whole = f"{_PREFIX}{theirs}.{key}"
                value = found.pop(whole, found.pop(f"{whole}.weight", None))
                _take(where, whole, parameter, value)
        for theirs, parameter in _heads(model).items() if saved else ():
            _take(where, theirs, parameter, found.pop(f"{_PREFIX}{theirs}", None))
    if found:
        raise DataError(f"{where}: unexpected tensor {next(iter(found))!r:.120}", hint="is it of another model?")
    return parameters


def _parts(layer: LoraLayer) -> dict[str, Tensor]:
    """The tensors of a layer by the ends of their names."""
    if layer.embeds:
        return {"lora_embedding_A": layer.lora_A, "lora_embedding_B": layer.lora_B}
    parts: dict[str, Tensor] = {"lora_A.weight": layer.lora_A, "lora_B.weight": layer.lora_B}
    if layer.lora_magnitude_vector is not None:
        parts["lora_magnitude_vector"] = layer.lora_magnitude_vector
    return parts


def _heads(model: nn.Module) -> Mapping[str, Tensor]:
    """What is trained whole, by published name; views of the parameters themselves."""
    layout = layout_of(model)
    if not layout.heads:
        return {}
    ours = {key: value.detach() for key, value in model.named_parameters() if key.startswith(layout.heads)}
    return layout.names.write(ours)


def _module(tensor: str) -> str:
    """The module that PEFT keeps whole for a tensor of a head: what it calls a classifier is kept as one."""
    first = tensor.partition(".")[0]
    return first if first in ("classifier", "score", "head") else tensor.rpartition(".")[0]


def _take(where: str, name: str, parameter: Tensor, value: Tensor | None) -> None:
    if value is None:
        raise DataError(f"{where}: {name} is missing", hint="is it of another model?")
    if value.shape != parameter.shape or not value.is_floating_point() or not bool(value.isfinite().all()):
        raise DataError(
            f"{where}: {name} is not {tuple(parameter.shape)} finite numbers", hint="is it of another model?"
        )
    parameter.copy_(value)
