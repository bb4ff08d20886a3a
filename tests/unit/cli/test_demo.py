"""`bloomery demo` on a tiny corpus: the same path as the real one, in a second."""

from __future__ import annotations

import json
import socket
from pathlib import Path


def test_demo_without_serving(call, tiny):
    source = ("--set", f'curate.sources=["{tiny.texts}"]', "--set", "curate.test_fraction=0.1")
    options = ("--no-serve", "--home", str(tiny.home), *source, *tiny.sizes, "--quiet")
    data = json.loads(call("demo", *options, "--json").out)
    assert {"corpus", "tokens", "model", "scores", "costs", "lineage", "code", "report"} == set(data)
    assert len(data["scores"]["completions"]) == 3
    names = {baseline["name"] for baseline in data["scores"]["baselines"]}
    assert names == {"xz -9", "zstd -19", "unigram (tokens)", "5-gram (bytes, Witten-Bell)"}
    assert [row["stage"] for row in data["costs"]][-1] == "all"
    again = call("demo", *options)
    assert again.err.count("unchanged, reused") == 5
    for text in ("corpus: train", "this model", "log-probabilities:", "report: ", "(a Hugging Face folder)"):
        assert text in again.out
    assert Path(data["report"]).is_file()


def test_a_busy_port_is_known_before_the_work(call, tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert port in call.mistake("demo", "--port", port, "--home", str(tmp_path))
    assert not (tmp_path / "artifacts").exists() or not any((tmp_path / "artifacts").iterdir())
