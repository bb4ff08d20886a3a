"""Adapters of others: every damaged or foreign file is one line that says where."""

from __future__ import annotations

import json
import random
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bloomery.core.errors import BloomeryError, DataError
from bloomery.models import Decoder, load_pretrained
from bloomery.models.adapter import read_adapter

_TESTS = Path(__file__).parents[2]
make_tiny_model = runpy.run_path(str(_TESTS / "tiny_model.py"))["make_tiny_model"]
make_tiny_adapter = runpy.run_path(str(_TESTS / "tiny_adapter.py"))["make_tiny_adapter"]
ONE = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="module")
def decoder(base: Path) -> Decoder:
    return load_pretrained(base, dtype=torch.float32)


def _without(tensors: dict[str, torch.Tensor], key: str) -> None:
    del tensors[key]


Damage = Callable[[dict[str, torch.Tensor]], Any]
DAMAGES: dict[str, Damage] = {
    "lora_A is missing": lambda t: _without(t, f"{ONE}.lora_A.weight"),
    "has no tensors of 'model.layers.0.self_attn.q_proj'": lambda t: [_without(t, k) for k in list(t) if ONE in k],
    "has no tensors": lambda t: t.clear(),
    "asks for rank 4": lambda t: t.update({f"{ONE}.lora_A.weight": torch.ones(5, 32)}),
    "lora_B has shape": lambda t: t.update({f"{ONE}.lora_B.weight": torch.ones(32, 3)}),
    "maps 31 to 32": lambda t: t.update({f"{ONE}.lora_A.weight": torch.ones(4, 31)}),
    "maps 32 to 33": lambda t: t.update({f"{ONE}.lora_B.weight": torch.ones(33, 4)}),
    "has shape (4,)": lambda t: t.update({f"{ONE}.lora_A.weight": torch.ones(4)}),
    "not finite": lambda t: t.update({f"{ONE}.lora_A.weight": torch.full((4, 32), torch.nan)}),
    "dtype torch.int64": lambda t: t.update({f"{ONE}.lora_A.weight": torch.ones(4, 32, dtype=torch.int64)}),
    "no such layer 'model.layers.9.self_attn.q_proj'": lambda t: t.update(
        {f"{ONE.replace('0', '9')}.lora_A.weight": torch.ones(4, 32)}
    ),
    "which target_modules does not name": lambda t: t.update(
        {f"{ONE.replace('q_proj', 'o_proj')}.lora_A.weight": torch.ones(4, 32)}
    ),
    "unexpected tensor 'model.embed_tokens.weight'": lambda t: t.update({"model.embed_tokens.weight": torch.ones(2)}),
    "lora_C' is not supported": lambda t: t.update({f"{ONE}.lora_C": torch.ones(2)}),
    "lora_B.bias' is not supported": lambda t: t.update({f"{ONE}.lora_B.bias": torch.ones(2)}),
    "is a single number": lambda t: t.update({f"{ONE}.lora_A.weight": torch.tensor(1.0)}),
    "or there twice": lambda t: t.update(
        {f"{ONE.replace('model.model.', 'model.', 1)}.lora_A.weight": torch.ones(4, 32)}
    ),
    "use_dora is not set": lambda t: t.update({f"{ONE}.lora_magnitude_vector": torch.ones(32)}),
}


@pytest.mark.parametrize("message", DAMAGES)
def test_damaged_tensors(tmp_path: Path, base: Path, decoder: Decoder, message: str):
    folder = make_tiny_adapter(tmp_path / "a", base)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    DAMAGES[message](tensors)
    save_file(tensors, path)
    with pytest.raises(DataError) as caught:
        read_adapter(folder, decoder, "a")
    assert message in str(caught.value) and "\n" not in caught.value.one_line()


def test_damaged_files(tmp_path: Path, base: Path, decoder: Decoder):
    folder = make_tiny_adapter(tmp_path / "a", base)
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-7], b"\xff" * 8 + whole[8:], b"PK\x03\x04pickle"):
        path.write_bytes(content)
        with pytest.raises(DataError, match="truncated or damaged"):
            read_adapter(folder, decoder, "a")
    path.unlink()
    (folder / "adapter_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataError) as caught:
        read_adapter(folder, decoder, "a")
    assert "never read" in caught.value.hint
    for name in ("", "a\nb", "x" * 300):
        with pytest.raises(BloomeryError, match="no name"):
            read_adapter(folder, decoder, name)


def test_a_pattern_that_never_ends(tmp_path: Path, base: Path, decoder: Decoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("bloomery.models.pattern_trial.SECONDS", 1)
    folder = make_tiny_adapter(tmp_path / "a", base)
    for key, value in (("target_modules", "(.|.)*!"), ("rank_pattern", {"(.|.)*!": 4})):
        document = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**document, key: value}))
        with pytest.raises(DataError, match="takes more than"):
            read_adapter(folder, decoder, "a")


def test_read(tmp_path: Path, base: Path, decoder: Decoder):
    adapter = read_adapter(make_tiny_adapter(tmp_path / "a", base), decoder, "a")
    assert adapter.rank == 4 and len(adapter.layers) == 6
    tensors = load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert adapter.nbytes == sum(t.nbytes for t in tensors.values())
    layer = adapter.layers["model.layers.0.self_attn.q_proj"]
    torch.testing.assert_close(layer.up @ layer.down, tensors[f"{ONE}.lora_B.weight"] @ tensors[f"{ONE}.lora_A.weight"])
    same = read_adapter(tmp_path / "a", decoder, "b")
    assert same.digest == adapter.digest and same.number != adapter.number
    other = read_adapter(make_tiny_adapter(tmp_path / "c", base, lora_alpha=3), decoder, "c")
    assert other.digest != adapter.digest  # the same tensors, at another scale


def test_flipped_bytes(tmp_path: Path, base: Path, decoder: Decoder):
    """Whatever is in the files, it is read or refused in one line."""
    folder = make_tiny_adapter(tmp_path / "a", base)
    generator, refused = random.Random(0), 0
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        path = folder / name
        whole = path.read_bytes()
        header = whole[: 8 + int.from_bytes(whole[:8], "little")] if name.endswith("safetensors") else whole
        for _ in range(150):
            changed = bytearray(whole)
            for _ in range(generator.randint(1, 3)):
                changed[generator.randrange(len(header))] = generator.choice(b'\x00\xff0919{}[]",:-eE.a')
            path.write_bytes(changed)
            try:
                read_adapter(folder, decoder, "a")
            except BloomeryError as error:
                refused += 1
                assert "\n" not in error.one_line()
        path.write_bytes(whole)
    assert refused > 150
    read_adapter(folder, decoder, "a")
