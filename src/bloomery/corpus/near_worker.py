"""Near-duplicate worker: a process that takes tasks as JSON lines and answers each with one. No pickle.

A task is {"do": "sign" or "join", ...} with the arguments of that phase, paths as text; the answer {"count": n}, or
{"errno": n, "error": text} for what the disk refused, or {"error": text}. It ends when its stdin does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bloomery.core.config import from_dict
from bloomery.core.errors import BloomeryError
from bloomery.corpus.dedup_config import DedupConfig
from bloomery.corpus.near_phases import join, sign_shard


def work(task: dict[str, Any]) -> int:
    """Do a task in this process; returns what its phase counts."""
    config = from_dict(DedupConfig, task["config"])
    sketches, out = Path(task["sketches"]), Path(task["out"])
    if task["do"] == "sign":
        folder = Path(task["folder"])
        return sign_shard(folder, task["name"], task["first"], config, out=out, sketches=sketches)
    folders = [Path(folder) for folder in task["folders"]]
    return join(task["partition"], folders, config, sketches=sketches, scratch=Path(task["scratch"]), out=out)


def main() -> None:
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"count": work(json.loads(line))}
        except OSError as error:
            answer = {"errno": error.errno or 5, "error": error.strerror or str(error)}
        except BloomeryError as error:
            answer = {"error": error.one_line()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
