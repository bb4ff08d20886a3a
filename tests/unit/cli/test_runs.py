"""`bloomery runs`: list, show, lineage, verify, gc."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bloomery.cli import runs
from bloomery.core.locks import FileLock
from bloomery.core.workspace import Workspace


def _copy(tiny, tmp_path: Path) -> Path:
    return tiny.copy(tmp_path / "home")


def test_list_show_lineage(call, tiny):
    home = ("--home", str(tiny.home))
    rows = json.loads(call("runs", "--json", "--limit", "1000", *home).out)
    rows = [row for row in rows if row["state"] == "finished"]
    assert {"curate", "train_tokenizer", "tokenize", "pretrain"} <= {row["stage"] for row in rows}
    for row in rows:
        shown = json.loads(call("runs", "show", row["id"], "--json", *home).out)
        assert shown["stage"] == row["stage"] and shown["phases"]
        assert call("runs", "show", row["artifact"], *home).out.startswith("name")
    tree = json.loads(call("runs", "lineage", "--json", *home).out)
    assert [row["depth"] for row in tree] == [0, 1, 2, 2]
    assert "pretrain:" in call("runs", "lineage", *home).out
    assert "finished" in call("runs", *home).out


def test_empty(call, tmp_path: Path):
    assert "bloomery demo" in call("runs", "--home", str(tmp_path)).out
    call.mistake("runs", "show", "nothing", "--home", str(tmp_path))


def test_verify_and_gc(call, tiny, tmp_path: Path):
    home = _copy(tiny, tmp_path)
    options = ("--home", str(home))
    assert call("runs", "verify", *options).code == 0
    shard = sorted((home / "artifacts").glob("tokens-*/train-00000.bin"))[0]
    shard.write_bytes(shard.read_bytes()[:-2])
    line = call.mistake("runs", "verify", *options)
    assert "train-00000.bin" in line
    report = call("runs", "verify", "--json", *options)
    assert report.code == 2 and json.loads(report.out)["damaged"]
    planned = json.loads(call("runs", "gc", "--damaged", "--dry-run", "--json", *options).out)
    assert planned["dry_run"] and len(planned["removed"]) == 1 and shard.exists()
    done = json.loads(call("runs", "gc", "--damaged", "--json", *options).out)
    assert done["removed"] == planned["removed"] and not shard.exists()
    assert call("runs", "verify", *options).code == 0


def test_gc_never_takes_a_model_or_its_ancestors(call, tiny, tmp_path: Path):
    home = _copy(tiny, tmp_path)
    assert call("runs", "gc", "--unused", "--home", str(home)).code == 0
    before = sorted(p.name for p in (home / "artifacts").iterdir())
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "a.txt").write_text("some other text, " * 20)
    (extra / "b.txt").write_text("and one more " * 20)
    assert call("curate", str(extra), "--home", str(home), "--quiet").code == 0
    removed = json.loads(call("runs", "gc", "--unused", "--json", "--home", str(home)).out)["removed"]
    assert len(removed) == 1 and removed[0].startswith("artifacts/corpus-")
    assert sorted(p.name for p in (home / "artifacts").iterdir()) == before
    assert any(name.startswith("model-") for name in before)


def test_every_damaged_file_is_named(call, tiny, tmp_path: Path):
    home = _copy(tiny, tmp_path)
    folder = next((home / "artifacts").glob("tokenizer-*"))
    for name in ("tokenizer.json", "chat_template.jinja"):
        data = bytearray((folder / name).read_bytes())
        data[10] ^= 1
        (folder / name).write_bytes(data)
    out = call("runs", "verify", "--home", str(home)).out
    assert "tokenizer.json" in out and "chat_template.jinja" in out
    (problem,) = json.loads(call("runs", "verify", "--json", "--home", str(home)).out)["damaged"]
    assert sorted(problem["files"]) == ["chat_template.jinja", "tokenizer.json"]


def test_a_file_too_many_is_not_promised_to_gc(call, tiny, tmp_path: Path):
    home = _copy(tiny, tmp_path)
    (next((home / "artifacts").glob("tokens-*")) / "extra.txt").write_text("mine")
    line = call.mistake("runs", "verify", "--home", str(home))
    assert "extra.txt" in line and "gc --damaged" not in line


def test_gc_of_what_is_damaged_and_unused_at_once(call, tiny, tmp_path: Path):
    home = _copy(tiny, tmp_path)
    (tmp_path / "extra").mkdir()
    for name in "ab":
        (tmp_path / "extra" / f"{name}.txt").write_text(f"words of {name}, " * 20)
    made = call("curate", str(tmp_path / "extra"), "--home", str(home), "--quiet", "--json").out
    folder = Path(json.loads(made)["path"])
    shard = next(folder.glob("*.jsonl.zst"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1  # same size: without hashing it looks sound
    shard.write_bytes(data)
    done = call("runs", "gc", "--damaged", "--unused", "--json", "--home", str(home))
    assert done.code == 0 and json.loads(done.out)["removed"].count(f"artifacts/{folder.name}") == 1
    assert not folder.exists()


def test_gc_leaves_scratch_that_a_run_has_taken_meanwhile(call, tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    home = _copy(tiny, tmp_path)
    left = home / "scratch" / "curate-0123456789abcdef"
    left.mkdir()
    (left / "part").write_text("left over")
    lock = FileLock(left.with_name(left.name + ".lock"))
    listed = runs._idle_scratch

    def taken_after_listing(workspace: Workspace) -> list[Path]:
        found = listed(workspace)
        assert left.name in [folder.name for folder in found] and lock.try_acquire()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(runs, "_idle_scratch", taken_after_listing)
        assert json.loads(call("runs", "gc", "--json", "--home", str(home)).out)["removed"] == []
    assert (left / "part").is_file()
    lock.release()
    assert json.loads(call("runs", "gc", "--json", "--home", str(home)).out)["removed"] == [f"scratch/{left.name}"]
    assert not left.exists()


def test_a_stage_without_runs_and_a_limit_below_one(call, tiny):
    out = call("runs", "--stage", "pretain", "--home", str(tiny.home)).out
    assert "'pretain'" in out and "demo" not in out
    assert "limit" in call.mistake("runs", "--limit", "0", "--home", str(tiny.home)).lower()
