"""`bloomery runs`: list, show, lineage, verify, gc."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def _copy(tiny, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    shutil.copytree(tiny.home, home)
    return home


def test_list_show_lineage(call, tiny):
    home = ("--home", str(tiny.home))
    rows = json.loads(call("runs", "--json", *home).out)
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
