"""curate at size: python-docs as a newcomer gets it, and memory that does not grow with the corpus."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.core.workspace import Workspace
from bloomery.corpus import curate, read_documents

_CURATE = """
import json, pathlib, re, resource, sys
from bloomery.corpus import CurateConfig, curate
corpus = curate([sys.argv[1]], workspace=sys.argv[2], config=CurateConfig(max_document_bytes=1 << 20))
status = pathlib.Path("/proc/self/status")
if status.exists():  # ru_maxrss of Linux begins with the peak of the process that started this one
    kilobytes = int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1])
else:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(json.dumps({"megabytes": kilobytes / 1024, **corpus.metrics}))
"""


@pytest.mark.slow
def test_python_docs_are_a_corpus(workspace: Workspace):
    corpus = curate("python-docs", workspace=workspace)
    metrics = corpus.metrics
    assert metrics["documents"]["train"] > 2000
    assert metrics["text_bytes"]["train"] > 6_000_000
    assert min(metrics["text_bytes"].values()) > 200_000
    assert metrics["dropped"]["overlaps_test"] > 0
    ids = [d.id for split in ("train", "validation", "test") for d in read_documents(corpus, split)]
    assert len(set(ids)) == len(ids) == sum(metrics["documents"].values())


def _write(path: Path, megabytes: int) -> None:
    rng = random.Random(0)
    words = [f"{rng.choice('bcdfgklmnprst')}{rng.choice('aeiou')}{n:x}" for n in range(20_000)]
    size = 0
    with path.open("w") as stream:
        while size < megabytes * 1_000_000:
            line = json.dumps({"text": " ".join(rng.choices(words, k=400))}) + "\n"
            size += stream.write(line)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path: Path):
    peaks = []
    for megabytes in (4, 48):
        path = tmp_path / f"{megabytes}.jsonl"
        _write(path, megabytes)
        command = [sys.executable, "-c", _CURATE, str(path), str(tmp_path / f"home{megabytes}")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        said = json.loads(done.stdout)
        assert sum(said["text_bytes"].values()) > 0.9e6 * megabytes
        peaks.append(said["megabytes"])
    # Twelve times the text; what may grow is caches up to their bounds (SQLite's 32 MiB, a buffer of a million runs).
    assert peaks[1] < peaks[0] + 60, peaks
    assert peaks[1] < 250, peaks
