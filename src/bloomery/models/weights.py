"""Weights in and out: Hugging Face folders of config.json and safetensors, one file or several with an index.

Files are memory-mapped and their headers checked against their length; a missing, unexpected or mis-shaped tensor
is an error that names it. Nothing is ever unpickled. This module does not know tokenizers or hubs.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.core.artifact import fsync, write_durably
from bloomery.core.errors import BloomeryError, DataError
from bloomery.models.config import ModelConfig
from bloomery.models.decoder import Decoder

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
_MAX_JSON_BYTES = 64 * 1024 * 1024
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Weight files as `save_pretrained` and transformers name them.
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
# Buffers that older exports carry and that follow from the config.
_DERIVED = re.compile(r".*\.rotary_emb\.inv_freq$")


def read_config(folder: str | Path) -> ModelConfig:
    """The ModelConfig of a Hugging Face folder; ids in generation_config.json that end a text are added."""
    folder = Path(folder)
    config = ModelConfig.from_hf(_read_json(folder / "config.json"))
    generation = folder / "generation_config.json"
    if not generation.is_file():
        return config
    eos = _read_json(generation).get("eos_token_id")
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
    wanted = {name: tuple(p.shape) for name, p in decoder.named_parameters()}
    if config.tie_word_embeddings:
        wanted[_HEAD] = wanted[_EMBEDDING]  # may be there, and is then the same numbers
    tensors: dict[str, Tensor] = {}
    for path, expected in _files(folder):
        for name, tensor in _read_tensors(path, expected):
            if _DERIVED.match(name):
                continue
            if name not in wanted:
                raise DataError(f"{path}: unexpected tensor {name!r}", hint="is config.json of another model?")
            if tuple(tensor.shape) != wanted[name]:
                raise DataError(f"{path}: {name} has shape {tuple(tensor.shape)}, config.json asks for {wanted[name]}")
            if tensor.dtype not in _DTYPES:
                raise DataError(f"{path}: {name} has dtype {tensor.dtype}; quantised weights are not supported")
            tensors[name] = tensor.to(device=device, dtype=dtype or tensor.dtype)
    if config.tie_word_embeddings:
        _drop_tied_head(tensors, wanted, folder)
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise DataError(f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]!r}")
    decoder.load_state_dict(tensors, assign=True)
    for parameter in decoder.parameters():
        parameter.requires_grad_(False)
    return decoder.eval()


def _drop_tied_head(tensors: dict[str, Tensor], wanted: dict[str, tuple[int, ...]], folder: Path) -> None:
    """A tied head that was written is the embedding; transformers would untie one that is not, others would not."""
    del wanted[_HEAD]
    head, embedding = tensors.pop(_HEAD, None), tensors.get(_EMBEDDING)
    if head is not None and embedding is not None and not torch.equal(head.to(embedding.dtype), embedding):
        raise DataError(
            f"{folder}: config.json says that {_HEAD} is tied to {_EMBEDDING}, but the two differ",
            hint="set tie_word_embeddings to false in config.json if the head is meant",
        )


def save_pretrained(decoder: Decoder, folder: str | Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Write config.json, generation_config.json and safetensors that transformers, vLLM and llama.cpp read.

    A tied head is not written twice. Every file is flushed to disk. Weights that the folder held before are replaced
    once the new ones are complete: a full disk leaves them as they were.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = decoder.config
    tensors = {name: p.detach().cpu().contiguous() for name, p in decoder.named_parameters()}
    document = config.to_hf()
    document["dtype"] = document["torch_dtype"] = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    shards = _shards(tensors, max_shard_bytes)
    count = len(shards)
    names = [SINGLE] if count == 1 else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    named = dict(zip(names, shards, strict=True))
    _replace_weights(folder, named)
    if count > 1:
        index = {
            "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
            "weight_map": {key: name for name, shard in named.items() for key in shard},
        }
        write_durably(folder / INDEX, _json(index))
    write_durably(folder / "config.json", _json(document))
    generation = {"bos_token_id": config.bos_token_id, "eos_token_id": document["eos_token_id"]}
    write_durably(folder / "generation_config.json", _json({k: v for k, v in generation.items() if v is not None}))


def _replace_weights(folder: Path, shards: Mapping[str, dict[str, Tensor]]) -> None:
    """Write each shard beside its place, then take away the weights that were there and move the new ones in.

    Never in place: a decoder that was loaded from this folder still has the old files mapped.
    """
    partials = {name: folder / f".{name}.{os.getpid()}.partial" for name in shards}
    try:
        for name, shard in shards.items():
            write_tensors(shard, partials[name])
    except BaseException:
        for partial in partials.values():
            partial.unlink(missing_ok=True)
        raise
    for old in folder.iterdir():
        if old.name not in shards and (old.name == INDEX or _WEIGHTS.fullmatch(old.name)):
            old.unlink()
    for name, partial in partials.items():
        partial.replace(folder / name)
    fsync(folder)


def _shards(tensors: Mapping[str, Tensor], max_bytes: int) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    return shards


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write contiguous CPU tensors as safetensors and flush them to disk; OSError with the system's error number."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # it keeps the operating system's error number in its text only
        number = 28 if "os error 28" in str(error) or "No space" in str(error) else 5
        raise OSError(number, "No space left on device" if number == 28 else str(error), str(path)) from error
    fsync(path)


def _files(folder: Path) -> Iterator[tuple[Path, set[str] | None]]:
    """Each weight file with the tensors that the index says it holds (None: all that it has)."""
    if (folder / SINGLE).is_file():
        yield folder / SINGLE, None
        return
    if not (folder / INDEX).is_file():
        pickled = [p.name for pattern in ("*.bin", "*.pt", "*.pth") for p in folder.glob(pattern)]
        hint = f"{pickled[0]} is a pickle, which is never read: convert it to safetensors" if pickled else ""
        raise DataError(f"{folder} has no {SINGLE}", hint=hint or "is this a model folder?")
    weight_map = _read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DataError(f"{folder / INDEX} has no weight_map")
    by_file: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise DataError(f"{folder / INDEX} names {file!r:.80}, which is not a safetensors file of this folder")
        by_file.setdefault(file, set()).add(name)
    for file, names in sorted(by_file.items()):
        yield folder / file, names


def _read_tensors(path: Path, expected: set[str] | None) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    with _as_data_error(path), safe_open(path, framework="pt") as file:
        names = set(file.keys())
        if expected is not None and names != expected:
            odd = sorted(names ^ expected)[0]
            raise DataError(f"{path}: the index and the file disagree about tensor {odd!r}")
        for name in sorted(names):
            yield name, file.get_tensor(name)


@contextmanager
def _as_data_error(path: Path) -> Iterator[None]:
    from safetensors import SafetensorError

    hint = "download or copy it again"
    try:
        yield
    except BloomeryError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} is missing", hint=hint) from None
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is truncated or damaged: {first}", hint=hint) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DataError(f"{path} is too large")
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} is missing", hint="is this a model folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} should hold a JSON object")
    return document


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()
