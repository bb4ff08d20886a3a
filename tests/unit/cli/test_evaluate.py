"""`bloomery evaluate`: a table, JSON, another model beside it, tasks of one's own, and one line for every mistake."""

from __future__ import annotations

import json
import runpy
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

make_tiny_adapter = runpy.run_path(str(Path(__file__).parents[2] / "tiny_adapter.py"))["make_tiny_adapter"]


def test_a_task_of_ones_own(call, tiny, tmp_path):
    rows = [{"query": f"term{n}", "choices": ["term2 term3", "term4"], "gold": n % 2} for n in range(8)]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "free.csv").write_text("input,target\nterm1 term2,term3\nterm4,term5\n")
    model = call("runs", "--json", "--home", str(tiny.home))
    assert model.code == 0
    command = ["evaluate", "", "--task", str(tmp_path / "mine.jsonl"), "--task", str(tmp_path / "free.csv")]
    folder = next((tiny.home / "artifacts").glob("model-*"))
    command[1] = folder.name
    home = ["--home", str(tiny.home), "--quiet"]
    found = json.loads(call(*command, "--json", *home).out)
    choice, free = found["tasks"]
    assert found["kind"] == "evaluation" and choice["samples"] == 8 and free["samples"] == 2
    figure = choice["metrics"]["accuracy"]
    assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1 and figure["method"] == "Wilson"
    assert free["metrics"]["exact_match"]["samples"] == 2
    assert "contamination" in choice  # the model's corpus is known
    printed = call(*command, *home).out
    assert "accuracy" in printed and "95% interval" in printed and "training corpus" in printed
    pages = tmp_path / "pages"
    beside = call(*command, "--limit", "6", "--against", folder.name, "--html", str(pages), *home).out
    assert "term2 term3" in (pages / "mine.html").read_text() and (pages / "free.html").is_file()
    assert "not distinguishable at n = 6" in beside
    one = json.loads(call(*command, "--limit", "1", "--json", *home).out)["tasks"][0]
    assert one["samples"] == 1 and one["metrics"]["accuracy"]["high"] - one["metrics"]["accuracy"]["low"] > 0.5
    assert "8 of 8 kept from before, whose cost was paid then" in call(*command, "--seed", "1", *home).out


def test_the_list_of_tasks(call):
    names = [one["name"] for one in json.loads(call("evaluate", "--list", "--json").out)]
    assert "arc_easy" in names and names == sorted(names)
    assert "BLiMP" in call("evaluate", "--list").out


def test_mistakes(call, tiny, tmp_path, monkeypatch):
    monkeypatch.delenv("BLOOMERY_DATA", raising=False)
    model = next((tiny.home / "artifacts").glob("model-*")).name
    home = ["--home", str(tiny.home), "--quiet"]
    assert "which model" in call.mistake("evaluate")
    assert "which tasks" in call.mistake("evaluate", model, *home)
    assert "arc_easy" in call.mistake("evaluate", model, "arc_eesy", *home)
    assert "--data" in call.mistake("evaluate", model, "arc_easy", *home)
    assert "nowhere" in call.mistake("evaluate", model, "arc_easy", "--data", str(tmp_path / "nowhere"), *home)
    assert "is a folder" in call.mistake("evaluate", model, "--task", str(tmp_path), *home)
    assert "no file" in call.mistake("evaluate", model, "--task", str(tmp_path / "absent.csv"), *home)
    (tmp_path / "other.jsonl").write_text('{"input": "a", "goal": "b"}')
    named = call.mistake("evaluate", model, "--task", str(tmp_path / "other.jsonl"), *home)
    assert "lacks" in named and "there is: input, goal" in named
    (tmp_path / "bad.jsonl").write_text('{"query": "a", "choices": ["b", "c"], "gold": 7}')
    assert "bad.jsonl:1" in call.mistake("evaluate", model, "--task", str(tmp_path / "bad.jsonl"), *home)
    assert "limit" in call.mistake("evaluate", model, "arc_easy", "--limit", "0", *home)
    refused = call.mistake("evaluate", "http://127.0.0.1:9/v1#m", "--task", str(tmp_path / "bad.jsonl"), *home)
    assert "bad.jsonl:1" in refused


def test_why_there_is_no_answer(call, tiny, tmp_path):
    (tmp_path / "long.csv").write_text(f"input,target\n{'term1 ' * 3000},term2\nterm1,term2\n")
    model = next((tiny.home / "artifacts").glob("model-*")).name
    home = ("--home", str(tiny.home), "--quiet")
    told = call("evaluate", model, "--task", str(tmp_path / "long.csv"), *home).out
    assert "1 of 2 without an answer, which count as wrong (" in told and "context" in told
    (tmp_path / "all.csv").write_text(f"input,target\n{'term1 ' * 3000},term2\n")
    assert "none of its 1 questions has an answer" in call.mistake(
        "evaluate", model, "--task", str(tmp_path / "all.csv"), *home
    )


def test_a_server_that_refuses_or_is_not_there_publishes_nothing(call, tmp_path):
    (tmp_path / "free.csv").write_text("Question,Answer\nterm1,term2\n")
    asked = ("--task", str(tmp_path / "free.csv"), "--home", str(tmp_path / "home"), "--quiet")
    there = call.mistake("evaluate", "http://127.0.0.1:9/v1#m", *asked)
    assert "no server at http://127.0.0.1:9/v1" in there and "is the server there" in there
    with refusing(401) as address:
        assert "is the key right" in call.mistake("evaluate", f"{address}#m", *asked)
    assert not list((tmp_path / "home" / "artifacts").glob("evaluation-*"))


@contextmanager
def refusing(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_letters_are_a_choice_and_it_is_said(call, tiny, tmp_path):
    (tmp_path / "quiz.csv").write_text("Question,A,B,C,Answer\nterm1,term2,term3,term4,B\nterm5,term6,term7,term8,C\n")
    model = next((tiny.home / "artifacts").glob("model-*")).name
    task = ("--task", str(tmp_path / "quiz.csv"), "--home", str(tiny.home), "--quiet")
    found = json.loads(call("evaluate", model, *task, "--json").out)["tasks"][0]
    assert found["kind"] == "choice" and "accuracy" in found["metrics"]
    assert "read as a choice" in call("evaluate", model, *task).out
    (tmp_path / "quiz.csv").write_text("Question,A,B\nterm1,term2,term3\n")
    assert "which is right" in call.mistake("evaluate", model, *task)


def test_an_adapter_beside_its_base_in_one_page(call, tiny, tmp_path):
    home = tiny.copy(tmp_path / "home")
    model = next((home / "artifacts").glob("model-*"))
    adapter = make_tiny_adapter(tmp_path / "tuned", model)
    (tmp_path / "quiz.csv").write_text("Question,A,B,Answer\n" + "".join(f"term{n},term2,term3,B\n" for n in range(6)))
    asked = ("--task", str(tmp_path / "quiz.csv"), "--home", str(home), "--quiet")
    page = tmp_path / "out" / "report.html"
    told = call(
        "evaluate", model.name, "--adapter", str(adapter), *asked, "--against", model.name, "--html", str(page)
    ).out
    assert "quiz, accuracy: " in told and "tuned" in told
    assert page.is_file() and "Evaluation of tuned" in page.read_text() and model.name in page.read_text()
    assert "--adapter" in call.mistake("evaluate", str(adapter), *asked)


def test_a_budget_and_a_judge(call, tiny, chat_endpoint, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"input": f"prize term{n}"}) + "\n" for n in range(6)))
    judge = f'[judge]\nmodel = "{chat_endpoint}#judge"\nscale = ["ham", "spam"]\nlabels = "labels.csv"\n'
    (tmp_path / "mine.toml").write_text('file = "rows.jsonl"\nmax_new_tokens = 4\n' + judge)
    (tmp_path / "labels.csv").write_text("id,label\n0,spam\n1,spam\n2,ham\n")
    model = next((tiny.home / "artifacts").glob("model-*")).name
    asked = ("evaluate", model, "--task", str(tmp_path / "mine.toml"), "--home", str(tiny.home), "--quiet")
    ended = call.mistake(*asked, "--budget-answers", "4")
    assert "requests: 0 left of 4" in ended and "larger budget" in ended
    told = call(*asked, "--budget-answers", "40").out
    assert "of 40 answers" in told and "uncalibrated" in told and "always 'spam'" in told and "judging took" in told
    assert "0 or more" in call.mistake(*asked, "--budget-tokens", "-1")
