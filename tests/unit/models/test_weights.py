"""Weights: what is damaged, missing or hostile is refused in one line; what is sound is read as it was written."""

from __future__ import annotations

import errno
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from bloomery.core.errors import ConfigError, DataError
from bloomery.models import Decoder, ModelConfig, load_pretrained, save_pretrained

CONFIG = ModelConfig(
    vocab_size=40,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=8,
    max_position_embeddings=16,
    bos_token_id=0,
    eos_token_id=(0, 3),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_pretrained(Decoder(CONFIG), tmp_path)
    return tmp_path


def _edit(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_reads_what_it_wrote(folder: Path):
    (folder / "manifest.json").write_text("{}")  # an artifact's folder holds one
    decoder = load_pretrained(folder)
    assert decoder.config == CONFIG and not decoder.training
    assert not any(p.requires_grad for p in decoder.parameters())
    torch.manual_seed(0)
    for a, b in zip(decoder.parameters(), Decoder(CONFIG).parameters(), strict=True):
        assert torch.equal(a, b)


def test_dtype_is_kept_or_given(folder: Path):
    decoder = load_pretrained(folder).to(torch.float16)
    save_pretrained(decoder, folder)
    assert {p.dtype for p in load_pretrained(folder).parameters()} == {torch.float16}
    assert {p.dtype for p in load_pretrained(folder, dtype=torch.float32).parameters()} == {torch.float32}


def test_truncated(folder: Path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="truncated or damaged") as caught:
        load_pretrained(folder)
    assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize("length", [0, 7, 1 << 20, (1 << 63) - 1])
def test_a_header_length_that_lies(folder: Path, length: int):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    with pytest.raises(DataError):
        load_pretrained(folder)


def test_a_flipped_bit_in_the_header(folder: Path):
    """Each bit of the length, and a seventh of the first entries': refused, or it still says the same tensors."""
    path = folder / "model.safetensors"
    original, sound = path.read_bytes(), load_pretrained(folder)
    for bit in [*range(64), *range(64, 8 * 400, 7)]:
        damaged = bytearray(original)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            loaded = load_pretrained(folder)
        except DataError as error:
            assert "\n" not in error.one_line()
        else:
            assert bit >= 64, "no length but the right one fits"
            assert _same(loaded, sound)


def test_missing_unexpected_misshapen_and_integer_tensors(folder: Path):
    path, name = folder / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    original = path.read_bytes()
    cases = [
        (lambda t: t.pop(name), name),
        (lambda t: t.update(surprise=torch.zeros(1)), "surprise"),
        (lambda t: t.update({name: torch.zeros(3, 3)}), r"\(3, 3\)"),
        (lambda t: t.update({name: torch.zeros(24, 16, dtype=torch.int8)}), "int8"),
        (lambda t: t.update({name: torch.zeros(24, 16).to(torch.float8_e4m3fn)}), "float8"),
    ]
    for change, words in cases:
        path.write_bytes(original)
        _edit(path, change)
        with pytest.raises(DataError, match=words):
            load_pretrained(folder)


def test_derived_buffers_are_passed_over(folder: Path):
    path = folder / "model.safetensors"
    _edit(path, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(4)}))
    load_pretrained(folder)


def test_a_written_tied_head_is_the_embedding_or_refused(folder: Path):
    path = folder / "model.safetensors"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    # transformers 5 runs the head that the file holds, others the embedding.
    with pytest.raises(DataError, match="tied to") as caught:
        load_pretrained(folder)
    assert "tie_word_embeddings" in caught.value.hint
    _edit(path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert load_pretrained(folder).lm_head is None
    _edit(path, lambda t: t.pop("lm_head.weight"))
    assert load_pretrained(folder).lm_head is None


def _same(a: Decoder, b: Decoder) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_saving_over_another_model_leaves_nothing_of_it(folder: Path):
    for shard_bytes, count in ((3000, None), (5000, None), (10**9, 1)):
        decoder = Decoder(CONFIG)
        save_pretrained(decoder, folder, max_shard_bytes=shard_bytes)
        assert _same(load_pretrained(folder), decoder)
        files = [path.name for path in folder.glob("*.safetensors")]
        index = folder / "model.safetensors.index.json"
        if count == 1:
            assert files == ["model.safetensors"] and not index.exists()
        else:
            assert set(files) == set(json.loads(index.read_text())["weight_map"].values())
    assert not list(folder.glob(".*"))


def test_a_loaded_model_may_be_saved_where_it_came_from(folder: Path):
    loaded, again = load_pretrained(folder), load_pretrained(folder)
    before = [p.clone() for p in again.parameters()]
    with torch.no_grad():
        loaded.model.norm.weight.add_(1)
    save_pretrained(loaded, folder)
    assert _same(load_pretrained(folder), loaded)
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), before, strict=True))


def test_a_full_disk_leaves_the_old_weights(folder: Path, monkeypatch: pytest.MonkeyPatch):
    import safetensors.torch

    old, calls, write = load_pretrained(folder), [], safetensors.torch.save_file

    def full(tensors, path, metadata):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(path))
        write(tensors, path, metadata)

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_pretrained(Decoder(CONFIG), folder, max_shard_bytes=5000)
    assert len(calls) == 2 and not list(folder.glob(".*"))
    assert _same(load_pretrained(folder), old)


def test_pickles_are_never_read(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(DataError) as caught:
        load_pretrained(folder)
    assert "pickle" in caught.value.hint


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "x.bin", 7, "a/b.safetensors"])
def test_an_index_stays_in_its_folder(folder: Path, name: object):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"lm_head.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="not a safetensors file of this folder"):
        load_pretrained(folder)


def test_shards_that_disagree_with_their_index(folder: Path):
    save_pretrained(load_pretrained(folder), folder / "sharded", max_shard_bytes=3000)
    shards = sorted((folder / "sharded").glob("*.safetensors"))
    assert len(shards) > 2
    load_pretrained(folder / "sharded")
    _edit(shards[0], lambda t: t.popitem())
    with pytest.raises(DataError, match="disagree"):
        load_pretrained(folder / "sharded")
    shards[0].unlink()
    with pytest.raises(DataError, match="missing"):
        load_pretrained(folder / "sharded")


@pytest.mark.parametrize("text", ["", "[]", "{", '{"model_type": "qwen3"' + "[" * 100_000, "\xff\xfe"])
def test_bad_config_files(folder: Path, text: str):
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises((DataError, ConfigError)):
        load_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_json_that_is_too_large_is_not_read(folder: Path, name: str):
    (folder / "model.safetensors").unlink()
    with (folder / name).open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)  # a hole: takes no disk
    with pytest.raises(DataError, match="too large"):
        load_pretrained(folder)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"weight_map": []}', '{"weight_map":' + "[" * 100_000])
def test_bad_indexes(folder: Path, text: str):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(DataError):
        load_pretrained(folder)


def test_no_model_there(tmp_path: Path):
    with pytest.raises(DataError, match=r"config\.json is missing"):
        load_pretrained(tmp_path)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_never_escapes_as_something_else(folder: Path, data: st.DataObject):
    name = data.draw(st.sampled_from(["model.safetensors", "config.json", "generation_config.json"]))
    path = folder / name
    original = path.read_bytes()
    damaged = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        # The header is where structure lives: damage it more often than the numbers.
        limit = min(len(damaged), 1500) if data.draw(st.booleans()) else len(damaged)
        damaged[data.draw(st.integers(0, limit - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        load_pretrained(folder)
    except (DataError, ConfigError) as error:
        assert "\n" not in error.one_line()
    finally:
        path.write_bytes(original)


def test_the_systems_error_of_a_write_is_kept(tmp_path: Path):
    """A file that may not grow, as with a quota that is used up: a checkpoint's writer tells it from a broken disk."""
    code = (
        "import errno, resource, signal, sys, torch\n"
        "from pathlib import Path\n"
        "from bloomery.models.weights import write_tensors\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    write_tensors({'w': torch.zeros(10000)}, Path(sys.argv[1]))\n"
        "except OSError as error:\n"
        "    print(error.errno == errno.EFBIG, error.strerror)\n"
    )
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path / "w")], capture_output=True, text=True, check=True)
    assert told.stdout == f"True {os.strerror(errno.EFBIG)}\n"
