"""Published folders in and out: a decoder from config.json and safetensors, and the same again.

This module does not know tokenizers or hubs, nor how files are read (see `weights`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from bloomery.core.artifact import write_durably
from bloomery.core.errors import DataError
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder
from bloomery.models.weights import MAX_SHARD_BYTES, as_json, load_weights, read_json, save_weights

_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def read_config(folder: str | Path) -> ModelConfig:
    """The ModelConfig of a Hugging Face folder; ids in generation_config.json that end a text are added."""
    folder = Path(folder)
    return with_generation(ModelConfig.from_hf(read_json(folder / "config.json")), folder)


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

    The dtype is the file's unless one is given. Raises DataError for missing, truncated or damaged files and for
    tensors that do not fit the config; ConfigError for keys of config.json that are not supported.
    """
    folder = Path(folder)
    config = read_config(folder)
    with torch.device("meta"):
        decoder = Decoder(config)
    tied = {_HEAD: _EMBEDDING} if config.tie_word_embeddings else {}
    load_weights(decoder, folder, config.names(), tied=tied, dtype=dtype, device=device)
    return decoder


def save_pretrained(decoder: Decoder, folder: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write config.json, generation_config.json and safetensors that transformers, vLLM and llama.cpp read.

    A tied head is not written twice. Every file is flushed to disk. Weights that the folder held before are replaced
    once the new ones are complete: a full disk leaves them as they were.
    """
    config = decoder.config
    save_weights(decoder, folder, config.names(), config.to_hf(), max_shard_bytes=max_shard_bytes)
    save_generation(config, folder)


def save_generation(config: ModelConfig, folder: str | Path) -> None:
    """Write the generation_config.json of a decoder: the ids that begin and end a text."""
    generation = {"bos_token_id": config.bos_token_id, "eos_token_id": config.to_hf()["eos_token_id"]}
    present = {key: value for key, value in generation.items() if value is not None}
    write_durably(Path(folder) / "generation_config.json", as_json(present))
