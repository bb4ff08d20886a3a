"""Published folders in and out: a decoder from config.json and safetensors, and the same again.

This module does not know tokenizers or hubs, nor how files are read (see `weights`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bloomery.core.artifact import write_durably
from bloomery.core.errors import ConfigError, DataError
from bloomery.models.compressed import KEY, Reader, Scheme, scheme_of, to_tensors
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder
from bloomery.models.naming import Names
from bloomery.models.outline import shapes_only
from bloomery.models.packing import linear_layers, packing_of
from bloomery.models.quantize import QuantizedWeight, divides, quantize
from bloomery.models.weights import MAX_SHARD_BYTES, as_json, load_weights, read_json, save_weights, write_folder

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_NO_LINEAR = frozenset({"gpt2"})  # its matrices are transformers' Conv1D, the other way round


def read_config(folder: str | Path) -> ModelConfig:
    """The ModelConfig of a Hugging Face folder; ids in generation_config.json that end a text are added."""
    folder = Path(folder)
    document = {key: value for key, value in read_json(folder / "config.json").items() if key != KEY}
    return with_generation(ModelConfig.from_hf(document), folder)


def with_generation(config: ModelConfig, folder: Path) -> ModelConfig:
    """The config with the ids added that a folder's generation_config.json says end a text."""
    generation = folder / "generation_config.json"
    if not generation.is_file():
        return config
    eos = read_json(generation).get("eos_token_id")
    ids = [eos] if isinstance(eos, int) else eos if isinstance(eos, list) else []
    if not all(isinstance(i, int) for i in ids):
        raise DataError(f"{generation}: eos_token_id should be a number or a list of numbers")
    merged = tuple(dict.fromkeys([*config.eos_token_id, *ids]))
    return dataclasses.replace(config, eos_token_id=merged)


def load_pretrained(
    folder: str | Path, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> Decoder:
    """A decoder from a local Hugging Face folder, in evaluation mode.

    The dtype is the file's unless one is given; quantised weights come out as the numbers that they stand for. Raises
    DataError for missing, truncated or damaged files and for tensors that do not fit the config; ConfigError for keys
    of config.json that are not supported.
    """
    return load_with_codes(folder, dtype=dtype, device=device)[0]


def load_with_codes(
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    floats: bool = True,
) -> tuple[Decoder, dict[str, QuantizedWeight]]:
    """As `load_pretrained`, with the integers of each layer that the file has quantised, by the layer's name here.
    Without `floats` these layers' weights stay on the meta device, to be packed: sooner, and without their memory."""
    folder = Path(folder)
    config, scheme = read_config(folder), scheme_of(read_json(folder / "config.json"))
    if scheme is not None and config.model_type in _NO_LINEAR:
        raise ConfigError(f"{folder}: quantised weights of {config.model_type} are not read")
    with shapes_only():
        decoder = Decoder(config)
    tied = {_HEAD: _EMBEDDING} if config.tie_word_embeddings else {}
    reader, names = None if scheme is None else Reader(scheme, floats), config.names()
    load_weights(decoder, folder, names, tied=tied, dtype=dtype, device=device, reader=reader)
    return decoder, {} if reader is None else _by_layer(reader.known, names)


def _by_layer(known: Mapping[str, QuantizedWeight], names: Names) -> dict[str, QuantizedWeight]:
    """Codes and scales under our names: a rule that takes rows apart takes those of both apart."""
    layers: dict[str, QuantizedWeight] = {}
    for theirs, whole in known.items():
        codes, scales = names.read(theirs, whole.codes), names.read(theirs, whole.scale)
        for (name, part), (_, scale) in zip(codes, scales, strict=True):
            layers[name.removesuffix(".weight")] = QuantizedWeight(part.contiguous(), scale.contiguous(), whole.bits)
    return layers


def save_quantized(
    decoder: Decoder,
    folder: str | Path,
    scheme: Scheme,
    *,
    known: Mapping[str, QuantizedWeight] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> tuple[str, ...]:
    """Write a decoder with its linear layers rounded to integers, as `compressed` says; otherwise as `save_pretrained`.

    `known` are integers of the scheme by our layers' names, where they were chosen already (see `calibrated`).
    Returns the published names of the linear layers that stay float. ConfigError for a family whose matrices are no
    Linear in transformers (GPT-2), for there the layout has no meaning.
    """
    _refuse_packed(decoder)
    config, names = decoder.config, decoder.config.names()
    if config.model_type in _NO_LINEAR:
        raise ConfigError(f"{config.model_type} cannot be quantised for others to read", hint="--quantize float16")
    parameters = {name: p.detach().cpu() for name, p in decoder.named_parameters()}
    rounded = {f"{path}.weight" for path, *_ in linear_layers(decoder)}
    dtype = next(iter(parameters.values())).dtype
    codes, scales = (
        names.write({f"{name}.weight": getattr(one, part) for name, one in (known or {}).items()})
        for part in ("codes", "scale")
    )
    published = {rule.theirs: rule.ours for rule in names.rules}
    tensors: dict[str, Tensor] = {}
    ignore: list[str] = []
    for theirs, tensor in names.write(parameters).items():
        base = theirs.removesuffix(".weight")
        if rounded.issuperset(published.get(theirs, (theirs,))) and divides(tensor, scheme.group_size):
            if theirs in codes:
                weight = QuantizedWeight(codes[theirs], scales[theirs], scheme.bits)
            else:
                weight = quantize(tensor, scheme.bits, scheme.group_size, scale_dtype=scale_dtype(dtype))
            tensors |= to_tensors(base, weight, dtype, in_words=scheme.in_words)
        else:
            tensors[theirs] = tensor
            if theirs != _EMBEDDING and tensor.dim() == 2 and theirs.endswith(".weight"):
                ignore.append(base)
    if decoder.lm_head is None:
        ignore.append(_HEAD.removesuffix(".weight"))
    document = {**config.to_hf(), KEY: scheme.to_hf(ignore)}
    write_folder(tensors, folder, document, dtype=dtype, max_shard_bytes=max_shard_bytes)
    save_generation(config, folder)
    return tuple(ignore)


def scale_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of scales beside float weights of a dtype. Where the file's scales are bfloat16 or float32, what is
    read back is exactly what `packing` makes."""
    return torch.float16 if dtype == torch.float16 else torch.bfloat16


def save_pretrained(decoder: Decoder, folder: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write config.json, generation_config.json and safetensors that transformers, vLLM and llama.cpp read.

    A tied head is not written twice. Every file is flushed to disk. Weights that the folder held before are replaced
    once the new ones are complete: a full disk leaves them as they were.
    """
    _refuse_packed(decoder)
    config = decoder.config
    save_weights(decoder, folder, config.names(), config.to_hf(), max_shard_bytes=max_shard_bytes)
    save_generation(config, folder)


def _refuse_packed(decoder: Decoder) -> None:
    if packing_of(decoder) is not None:
        raise ConfigError("packed weights are not written", hint="load the model without weights=, and export that")


def save_generation(config: ModelConfig, folder: str | Path) -> None:
    """Write the generation_config.json of a decoder: the ids that begin and end a text."""
    generation = {"bos_token_id": config.bos_token_id, "eos_token_id": config.to_hf()["eos_token_id"]}
    present = {key: value for key, value in generation.items() if value is not None}
    write_durably(Path(folder) / "generation_config.json", as_json(present))
