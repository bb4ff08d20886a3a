"""`bloomery annotate model`: an endpoint labels a corpus; nothing is asked twice."""

from __future__ import annotations

import json
import socket
from pathlib import Path

QUESTION = 'name = "by model"\nkind = "choice"\ninstruction = "Is this spam?"\nlabels = ["ham", "spam"]\n'


def test_asked_once_with_what_it_cost(call, spam_home, chat_endpoint: str, tmp_path: Path):
    (tmp_path / "q.toml").write_text(QUESTION)
    command = (
        "annotate",
        "model",
        str(tmp_path / "q.toml"),
        "--endpoint",
        chat_endpoint,
        "--model",
        "m",
        "--split",
        "test",
    )
    command += (
        "--input-price",
        "1",
        "--output-price",
        "2",
        "--currency",
        "EUR",
        "--home",
        str(spam_home.home),
        "--quiet",
    )
    told = json.loads(call(*command, "--json").out)
    assert told["answered"] > 20 and told["known"] == told["failed"] == told["unanswered"] == 0
    cost = told["cost"][0]
    assert cost["annotator"].startswith("m@127.0.0.1:") and cost["currency"] == "EUR" and cost["money"] > 0
    assert cost["energy_joules"]["method"] == "unknown" and cost["per_label"]["completion_tokens"] == 2
    again = call(*command)
    assert again.code == 0 and f"0 answered, {told['answered']} known before" in again.out
    assert "energy unknown" in again.out and " EUR" in again.out


def test_a_sample_is_the_same_again(call, spam_home, chat_endpoint: str, tmp_path: Path):
    (tmp_path / "q.toml").write_text(QUESTION.replace("by model", "sampled"))
    command = (
        "annotate",
        "model",
        str(tmp_path / "q.toml"),
        "--endpoint",
        chat_endpoint,
        "--model",
        "m",
        "--sample",
        "7",
    )
    for known in (0, 7):
        told = json.loads(call(*command, "--home", str(spam_home.home), "--quiet", "--json").out)
        assert told["known"] == known and told["known"] + told["answered"] == 7


def test_an_endpoint_from_a_file(call, spam_home, chat_endpoint: str, tmp_path: Path):
    (tmp_path / "q.toml").write_text(QUESTION.replace("by model", "from a file"))
    (tmp_path / "e.toml").write_text(f'url = "{chat_endpoint}"\nmodel = "n"\nstructure = "prompt"\n')
    command = ("annotate", "model", str(tmp_path / "q.toml"), "--endpoint", str(tmp_path / "e.toml"), "--sample", "3")
    told = json.loads(call(*command, "--home", str(spam_home.home), "--quiet", "--json").out)
    assert told["answered"] == 3 and told["cost"][0]["annotator"].startswith("n@127.0.0.1:")


def test_mistakes(call, spam_home, tmp_path: Path):
    (tmp_path / "q.toml").write_text(QUESTION)
    base = ("annotate", "model", str(tmp_path / "q.toml"), "--home", str(spam_home.home), "--quiet")
    assert "which model" in call.mistake(*base, "--endpoint", "http://127.0.0.1:9/v1")
    assert "no address" in call.mistake(*base, "--endpoint", "models.example", "--model", "m")
    assert "endpoint's" in call.mistake(*base, "--key-file", "k", "--model", "m")
    assert "together" in call.mistake(*base, "--input-price", "1")
    (tmp_path / "e.toml").write_text('url = "http://127.0.0.1:9/v1"\nmax_attempts = 1\nmodel = "m"\n')
    assert "does not answer" in call.mistake(*base, "--endpoint", str(tmp_path / "e.toml"))


def test_where_nothing_is_answered_the_command_fails(call, spam_home, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "q.toml").write_text(QUESTION.replace("by model", "nobody"))
    (tmp_path / "e.toml").write_text(f'url = "http://127.0.0.1:{port}/v1"\nmodel = "m"\nmax_attempts = 1\n')
    at = ("--endpoint", str(tmp_path / "e.toml"), "--sample", "2", "--home", str(spam_home.home), "--quiet")
    answer = call("annotate", "model", str(tmp_path / "q.toml"), *at)
    assert answer.code == 2 and "0 answered" in answer.out
    assert "error: nothing was answered; the last error: " in answer.err
