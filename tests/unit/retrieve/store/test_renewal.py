"""An index made anew: the old one or the new one, whole, whatever happens on the way; and who reads meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import ArtifactError
from bloomery.retrieve import Index, IndexConfig
from bloomery.retrieve.store.renewal import BESIDE, Renewal
from bloomery.retrieve.store.schema import FILE, NewChunk, NewDocument, Tables
from bloomery.retrieve.store.writer import Writer

CONFIG = IndexConfig(embedder="given")
EYE = np.eye(3, dtype=np.float32)
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from bloomery.retrieve import IndexConfig
from bloomery.retrieve.store.renewal import Renewal
from bloomery.retrieve.store.schema import NewChunk, NewDocument, Tables

folder, when = Path(sys.argv[1]), sys.argv[2]

def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def put(writer, text):
    chunk = NewChunk(id=f"{text}-0", start=0, end=len(text), heading="", text=text)
    new = NewDocument(id=text, origin="o", source=text, digest=b"d", metadata={}, text=text, chunks=[chunk])
    writer.put([new], np.eye(3, dtype=np.float32)[1:2])

renewal = Renewal(folder, IndexConfig(embedder="given", precision="float16"))
put(renewal.writer, "copper")
if when == "before":
    dies()
if when == "vectors":  # the new vectors lie beside the old ones, the tables are the old ones
    Tables.copy_over = dies
if when == "copied":
    copy = Tables.copy_over
    Tables.copy_over = lambda self, other: (copy(self, other), dies())
renewal.finish()
"""


def new(text: str) -> NewDocument:
    chunk = NewChunk(id=f"{text}-0", start=0, end=len(text), heading="", text=text)
    return NewDocument(id=text, origin="o", source=text, digest=b"d", metadata={}, text=text, chunks=[chunk])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Writer(tmp_path / "i", CONFIG) as writer:
        writer.put([new("iron"), new("coal")], EYE[:2])
        writer.compact()  # another generation than the first
    return tmp_path / "i"


def state(folder: Path) -> tuple[list[str], str]:
    """Documents, and what stands nearest to a vector: the tables' rows and the vectors fit together."""
    with Index(folder) as found:
        (hit,) = found.search_with({}, EYE[1], 1)
        assert hit.scores["vector"] == pytest.approx(1.0)
        return [one["id"] for one in found.documents()], hit.chunk.text


OLD, NEW = (["coal", "iron"], "coal"), (["copper"], "copper")


def test_the_old_one_stays_until_the_new_one_is_whole(folder):
    with Index(folder) as reader:
        with closing(Renewal(folder, CONFIG)) as renewal:
            renewal.writer.put([new("copper")], EYE[1:2])
            assert state(folder) == OLD and reader.search_with({}, EYE[0], 1)[0].chunk.text == "iron"
            with pytest.raises(ArtifactError, match="another process"):
                Writer(folder, CONFIG)
            renewal.finish()
        assert reader.search_with({}, EYE[1], 1)[0].chunk.text == "copper"  # the same handle, opened before
    assert state(folder) == NEW and not (folder / BESIDE).exists()
    assert len(list(folder.glob("vectors-*"))) == 1
    with Writer(folder, CONFIG) as writer:  # and it goes on as any other
        writer.put([new("iron")], EYE[1:2])
        writer.remove(["copper"])
        assert writer.compact() == 1
    assert state(folder)[0] == ["iron"]


def test_what_is_given_up_leaves_nothing(folder):
    with pytest.raises(KeyboardInterrupt), closing(Renewal(folder, CONFIG)) as renewal:
        renewal.writer.put([new("copper")], EYE[1:2])
        raise KeyboardInterrupt
    assert state(folder) == OLD and not (folder / BESIDE).exists()


def test_a_graph_that_a_killed_one_has_left_is_nobodys(folder):
    """It is of other vectors, under the name of the generation that comes next."""
    left = folder / "graph-000002.usearch"
    left.write_bytes(b"of other vectors")
    with Writer(folder, CONFIG) as writer:
        writer.compact()
    assert not left.exists() and state(folder) == OLD
    left = folder / "graph-000003.usearch"
    left.write_bytes(b"of other vectors")
    with closing(Renewal(folder, CONFIG)) as renewal:
        renewal.writer.put([new("copper")], EYE[1:2])
        renewal.finish()
    assert not left.exists() and state(folder) == NEW


def test_a_reader_is_told_of_another_config(folder):
    with Index(folder) as reader:
        reader.search_with({"iron": 1}, None, 1)
        with closing(Renewal(folder, IndexConfig(words="trigram"))) as renewal:
            renewal.writer.put([new("copper")])
            renewal.finish()
        with pytest.raises(ArtifactError, match="another way") as caught:
            reader.search_with({"iron": 1}, None, 1)
        assert "open it again" in caught.value.hint


def test_a_damaged_one_is_replaced(folder):
    (folder / FILE).write_bytes(b"no database" * 1000)
    with closing(Renewal(folder, CONFIG)) as renewal:
        renewal.writer.put([new("copper")], EYE[1:2])
        renewal.finish()
    assert state(folder) == NEW


def test_a_commit_that_fails_leaves_the_old_one(folder, monkeypatch):
    def full(self, other):
        raise ArtifactError("the disk is full")

    monkeypatch.setattr(Tables, "copy_over", full)
    with pytest.raises(ArtifactError, match="full"), closing(Renewal(folder, CONFIG)) as renewal:
        renewal.writer.put([new("copper")], EYE[1:2])
        renewal.finish()
    assert state(folder) == OLD


@pytest.mark.parametrize(("when", "left"), [("before", OLD), ("vectors", OLD), ("copied", NEW)])
def test_a_kill_leaves_one_of_them_whole(folder, when, left):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), when], check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert state(folder) == left
    with closing(Renewal(folder, CONFIG)) as renewal:  # the next one begins from nothing
        renewal.writer.put([new("copper")], EYE[1:2])
        renewal.finish()
    assert state(folder) == NEW and len(list(folder.glob("vectors-*"))) == 1
