"""Weights in and out: Hugging Face folders of config.json and safetensors, one file or several with an index.

Files are memory-mapped and their headers checked against their length; a missing, unexpected or mis-shaped tensor
is an error that names it. Nothing is ever unpickled. This module does not know families, tokenizers or hubs.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bloomery.core.artifact import fsync, write_durably
from bloomery.core.errors import BloomeryError, ConfigError, DataError
from bloomery.models.naming import Names
from bloomery.models.quantize import QuantizedWeight

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_SHARD_BYTES = 5_000_000_000
_MAX_JSON_BYTES = 64 * 1024 * 1024
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
# Weight files as `save_pretrained` and transformers name them.
_SYSTEM_ERROR = re.compile(r"os error (\d+)")
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors")
# Buffers that older exports carry and that follow from the config: frequencies, GPT-2's and GPT-NeoX's masks.
DERIVED = re.compile(r".*(\.rotary_emb\.inv_freq|\.attn\.(masked_)?bias|\.attention\.(masked_)?bias)$")


def load_weights(
    model: nn.Module,
    folder: Path,
    names: Names,
    *,
    tied: Mapping[str, str] | None = None,
    ignored: re.Pattern[str] = DERIVED,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
    reader: Reader | None = None,
) -> None:
    """Fill a model (on the meta device) from a folder's safetensors; it comes out frozen and in evaluation mode.

    `tied` maps parameters that the model does not have to those that they must equal where a file has them (a head
    that is the embedding); tensors whose name matches `ignored` follow from the config and are passed over; a
    `reader` puts quantised tensors together first, and what it leaves on the meta device stays there. Raises DataError
    for missing, truncated or damaged files and for tensors that do not fit.
    """
    tied = tied or {}
    wanted = {name: tuple(p.shape) for name, p in model.named_parameters()}
    wanted |= {copy: wanted[original] for copy, original in tied.items()}
    tensors: dict[str, Tensor] = {}
    for path, expected in _files(folder):
        for theirs, whole in read_tensors(path, expected):
            if ignored.match(theirs):
                continue
            for name, tensor in _taken_apart(path, names, theirs, whole, reader, {*tied, *tied.values()}):
                if name not in wanted:
                    raise DataError(f"{path}: unexpected tensor {theirs!r}", hint="is config.json of another model?")
                if tuple(tensor.shape) != wanted[name]:
                    raise DataError(
                        f"{path}: {name} has shape {tuple(tensor.shape)}, config.json asks for {wanted[name]}"
                    )
                place = tensor.device if tensor.is_meta else device
                tensors[name] = tensor.to(device=place, dtype=dtype or tensor.dtype).contiguous()
    if reader is not None:
        reader.finish()
    for copy, original in tied.items():
        _drop_tied(tensors, copy, original, folder)
        del wanted[copy]
    missing = sorted(wanted.keys() - tensors.keys())
    if missing:
        raise DataError(f"{folder}: {len(missing)} tensors are missing, the first is {missing[0]!r}")
    model.load_state_dict(tensors, assign=True, strict=False)  # buffers are not in files; parameters were checked
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()


def tensor_names(folder: Path) -> set[str]:
    """The names of all tensors in a folder's files; DataError as `load_weights`."""
    from safetensors import safe_open

    names: set[str] = set()
    for path, _ in _files(folder):
        with _as_data_error(path), safe_open(path, framework="pt") as file:
            names.update(file.keys())
    return names


class Reader(Protocol):
    """What puts the tensors of quantised layers together; see `compressed.Reader`."""

    known: dict[str, QuantizedWeight]

    def take(self, name: str, tensor: Tensor) -> list[tuple[str, Tensor]]: ...

    def finish(self) -> None: ...


def _taken_apart(
    path: Path, names: Names, theirs: str, whole: Tensor, reader: Reader | None, tied: set[str]
) -> list[tuple[str, Tensor]]:
    """A file's tensor under our names; what may be `tied` to another comes with its numbers, to be compared."""
    try:
        found = [(theirs, whole)] if reader is None else reader.take(theirs, whole)
        for name, tensor in found:
            if tensor.dtype not in _DTYPES:
                raise DataError(f"{name} has dtype {tensor.dtype}; quantised weights are not supported here")
        parts = [part for name, tensor in found for part in names.read(name, tensor)]
        if reader is not None and any(tensor.is_meta and name in tied for name, tensor in parts):
            parts = [part for name, _ in found for part in names.read(name, reader.known[name].dequantized())]
        return parts
    except DataError as error:
        raise DataError(f"{path}: {error}", hint=error.hint) from error


def _drop_tied(tensors: dict[str, Tensor], copy: str, original: str, folder: Path) -> None:
    """A tied head that was written is the embedding; transformers would untie one that is not, others would not."""
    head, embedding = tensors.pop(copy, None), tensors.get(original)
    if head is not None and embedding is None:
        tensors[original] = head
    elif head is not None and embedding is not None and not torch.equal(head.to(embedding.dtype), embedding):
        raise DataError(
            f"{folder}: config.json says that {copy} is tied to {original}, but the two differ",
            hint="set tie_word_embeddings to false in config.json if the head is meant",
        )


def save_weights(
    model: nn.Module,
    folder: str | Path,
    names: Names,
    document: Mapping[str, Any],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write a model's parameters under their published names, and `document` with the dtype as config.json.

    Every file is flushed to disk. Weights that the folder held before are replaced once the new ones are complete:
    a full disk leaves them as they were. ConfigError for a model that adapters are on: they have files of their own.
    """
    if any(name.startswith("lora.") for name, _ in model.named_parameters()):
        raise ConfigError("the model has adapters on it", hint="merge them and take them off, or save them alone")
    tensors = names.write({name: p.detach().cpu() for name, p in model.named_parameters()})
    dtype = next(iter(tensors.values())).dtype
    write_folder(tensors, folder, document, dtype=dtype, max_shard_bytes=max_shard_bytes)


def write_folder(
    tensors: Mapping[str, Tensor],
    folder: str | Path,
    document: Mapping[str, Any],
    *,
    dtype: torch.dtype,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Write contiguous CPU tensors under their published names, and `document` with `dtype` as config.json."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(tensors, max_shard_bytes)
    count = len(shards)
    files = [SINGLE] if count == 1 else [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
    named = dict(zip(files, shards, strict=True))
    _replace_weights(folder, named)
    if count > 1:
        index = {
            "metadata": {"total_size": sum(t.nbytes for t in tensors.values())},
            "weight_map": {key: name for name, shard in named.items() for key in shard},
        }
        write_durably(folder / INDEX, as_json(index))
    kind = str(dtype).removeprefix("torch.")
    write_durably(folder / "config.json", as_json({**document, "dtype": kind, "torch_dtype": kind}))


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


def write_tensors(tensors: dict[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write contiguous CPU tensors as safetensors and flush them to disk; OSError with the system's error number."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:  # it keeps the operating system's error number in its text only
        found = _SYSTEM_ERROR.search(str(error))
        number = int(found[1]) if found else errno.EIO
        raise OSError(number, os.strerror(number) if found else str(error), str(path)) from error
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
    weight_map = read_json(folder / INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise DataError(f"{folder / INDEX} has no weight_map")
    by_file: dict[str, set[str]] = {}
    for name, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
            raise DataError(f"{folder / INDEX} names {file!r:.80}, which is not a safetensors file of this folder")
        by_file.setdefault(file, set()).add(name)
    for file, names in sorted(by_file.items()):
        yield folder / file, names


def read_tensors(path: Path, expected: set[str] | None = None) -> Iterator[tuple[str, Tensor]]:
    """Each tensor of a safetensors file with its name, in the names' order; `expected` are the names that it should
    have. DataError for a file that is missing, damaged, or has others."""
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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; DataError where there is none."""
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


def as_json(document: Mapping[str, Any]) -> bytes:
    """A JSON object as the bytes of a file."""
    return (json.dumps(document, indent=2) + "\n").encode()
