"""SIGKILLs at random instants of a curation: the documents of the resumed run are those of an uninterrupted one.

    python benchmarks/kill_curate.py [--kills 50] [--each 10] [--megabytes 12] [--pages 150] [--engine local]

Sources are made: lines of JSON with near and exact copies, broken lines, pages in a WARC. They are held to c4's rules,
scrubbed and deduplicated. A run is killed at an instant drawn from the time that the straight run took, and started
again until it ends, undisturbed after `--each` kills; then a new one begins, until there have been so many kills.
Checked each time a run has ended: the bytes of the corpus, its multiset of documents, that scratch is empty, and that
no process of it is left. Prints how many pieces each kill left to go on from, and returns 1 at the first difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from bloomery.core.workspace import Workspace
from bloomery.corpus import read_documents
from bloomery.corpus.split import SPLITS

_RUN = """
import sys
from pathlib import Path
from bloomery.corpus import CurateConfig, FilterConfig, PersonalConfig, curate, reading_log, reading_plan, sources
from bloomery.corpus.dedup_config import DedupConfig
sources._POOL_BYTES = sources._JUDGED_BYTES = 0   # as large sources are read
reading_plan.LINE_BYTES = 300_000
reading_log._PIECE_BYTES, reading_log._PIECE_SECONDS = 200_000, 0.5
config = CurateConfig(
    filter=FilterConfig(profile="c4-paper", rules={"c4_language": "off"}),
    personal=PersonalConfig(email="mask"),
    dedup=DedupConfig(near=True),
    decontaminate_words=8,
    engine=sys.argv[3],
)
print("ready", flush=True)
print(curate(sys.argv[1], config=config, workspace=sys.argv[2], workers=2).id, flush=True)
"""


def write_sources(folder: Path, megabytes: float, pages: int) -> None:
    """A folder with lines.jsonl and pages.warc, the same each time."""
    folder.mkdir()
    rng = random.Random(0)
    words = [f"{rng.choice('bcdfgklmnprst')}{rng.choice('aeiou')}{rng.choice('lmnrst')}{n:x}" for n in range(5000)]

    def text() -> str:
        line = "The {} of {} and {} had to be with {}, and {} have it that {}."
        return "\n".join(line.format(*rng.choices(words, k=6)) for _ in range(rng.randint(2, 30)))

    texts: list[str] = []
    size = 0
    with (folder / "lines.jsonl").open("w") as stream:
        while size < megabytes * 1e6:
            copy = texts and rng.random() < 0.2
            one = rng.choice(texts[-50:]) if copy else text()
            one = one.replace(" and ", " or ", 1) if copy and rng.random() < 0.7 else one
            texts.append(one)
            mail = f"\nWrite to a{len(texts)}@acme.io." if rng.random() < 0.1 else ""
            row = json.dumps({"text": one + mail}) if rng.random() > 0.01 else "{broken"
            size += stream.write(row + "\n")
    head = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http\r\nContent-Length: %d\r\n\r\n"
    with (folder / "pages.warc").open("wb") as stream:
        for _ in range(pages):
            page = "".join(f"<p>{line}</p>" for line in text().split("\n"))
            body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<main>" + page.encode() + b"</main>"
            stream.write(head % len(body) + body + b"\r\n\r\n")


def _start(home: Path, folder: Path, engine: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _RUN, str(folder), str(home), engine]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(process.communicate()[1])


def _left_over(mark: str) -> list[str]:
    """Processes of the pool that are still there: each has the run's folder of tables or its config nowhere, so they
    are known by the environment variable that their parent had."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BLOOMERY_KILL_MARK") == mark and process.pid != os.getpid():
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def _none_left(mark: str, seconds: float = 180.0) -> list[str]:
    """What is still there after a while: who reads for a killed process ends when it finds nobody listening, which it
    does not before it has started; a busy machine takes a minute for that."""
    until = time.monotonic() + seconds
    while (left := _left_over(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _state(home: Path) -> tuple[dict[str, str], Counter[tuple[str, str]], str]:
    """(hash by file, multiset of documents with their splits, what should not be there)."""
    workspace = Workspace(home)
    corpus = workspace.latest("corpus")
    files = {file["path"]: file["sha256"] for file in corpus.manifest["files"]}
    documents = Counter((split, d.text) for split in SPLITS for d in read_documents(corpus, split))
    wrong = [str(path) for path in workspace.scratch.glob("curate-*/")]
    wrong += [run["id"] for run in workspace.ledger.unfinished()]
    workspace.ledger.close()
    return files, documents, ", ".join(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--each", type=int, default=10, help="kills of one run at most, before it is let end")
    parser.add_argument("--megabytes", type=float, default=12)
    parser.add_argument("--pages", type=int, default=150)
    parser.add_argument("--engine", default="local")
    given = parser.parse_args()
    mark = os.environ["BLOOMERY_KILL_MARK"] = f"{os.getpid()}-{time.time()}"
    with tempfile.TemporaryDirectory() as root:
        return _kills(Path(root), given, mark)


def _kills(root: Path, given: argparse.Namespace, mark: str) -> int:
    write_sources(root / "sources", given.megabytes, given.pages)
    process = _start(root / "straight", root / "sources", given.engine)
    _wait_until_ready(process)
    began = time.monotonic()
    _, errors = process.communicate()
    if process.returncode:
        print(errors)
        return 1
    lasted = time.monotonic() - began
    straight = _state(root / "straight")
    assert not straight[2], straight[2]
    print(f"straight: {lasted:.1f} s, {straight[1].total()} documents in {len(straight[0])} files", flush=True)
    rng = random.Random(given.kills)
    kills, of_this, ended, resumed, pieces, home = 0, 0, 0, 0, Counter[int](), root / "killed-0"
    while kills < given.kills or of_this:
        process = _start(home, root / "sources", given.engine)
        _wait_until_ready(process)
        try:
            if kills < given.kills and of_this < given.each:
                process.communicate(timeout=rng.uniform(0, lasted))
            else:
                process.communicate()
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            _, errors = process.communicate()
            kills, of_this = kills + 1, of_this + 1
            kept = len(list(home.glob("scratch/curate-*/cut-0/read-*/*.zst")))
            pieces[kept] += 1
            resumed += kept > 0
            print(f"kill {kills}: {kept} pieces kept", flush=True)
        if left := _none_left(mark):
            print("left over:", left)
            return 1
        if process.returncode == -signal.SIGKILL:
            continue
        found = None if process.returncode else _state(home)
        if found != straight:
            print("different after", kills, "kills:", process.returncode, errors, found[2] if found else "")
            return 1
        ended, of_this = ended + 1, 0
        home = root / f"killed-{ended}"
    counts = f"{resumed} of them with pieces to go on from (at most {max(pieces, default=0)})"
    print(f"{kills} kills, {counts}; {ended} runs ended, all equal to the straight one; no process left")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
