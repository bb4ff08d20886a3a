"""Mistakes end in one line and exit code 2; help and version work for every verb."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bloomery import __version__
from bloomery.cli import main as main_module
from bloomery.cli.main import INTERRUPTED, build_app, verbs


def test_version(call):
    assert call("--version").out.strip() == __version__


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_help(call, verb: str):
    answer = call(verb, "--help")
    assert answer.code == 0
    assert f"bloomery {verb}" in answer.out


@pytest.mark.parametrize(
    "arguments", [("curat",), ("curate", "--sett", "x"), ("pretrain", "--minutes", "soon"), ("runs", "frobnicate", "x")]
)
def test_a_mistyped_call_is_one_line(call, arguments: tuple[str, ...]):
    answer = call(*arguments)
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1
    assert answer.err.startswith("error: ") and "--help" in answer.err


@pytest.mark.parametrize(
    ("arguments", "help_of"),
    [
        (("curate", "a", "--nosuch"), "bloomery curate --help"),
        (("annotate", "apply", "x", "--join", "no"), "bloomery annotate apply --help"),
        (("runs", "frobnicate", "x"), "bloomery runs --help"),
        (("--nosuch",), "bloomery --help"),
    ],
)
def test_a_mistake_names_the_help_of_its_verb(call, arguments: tuple[str, ...], help_of: str):
    assert f"({help_of})" in call(*arguments).err


def test_no_write_permission(call, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    answer = call("runs", "--home", str(tmp_path / "file" / "home"))
    assert answer.code == 2
    assert len(answer.err.strip().splitlines()) == 1
    assert "error: cannot use" in answer.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), INTERRUPTED, "run the same command again"),
        (OSError(28, "No space left on device"), 2, "free some space"),
        (MemoryError(), 2, "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 2, "out of memory on the device"),
    ],
)
def test_what_the_machine_does(call, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, text: str):
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(main_module, "build_app", lambda: fail)
    answer = call("runs")
    assert answer.code == code
    assert text in answer.err and len(answer.err.strip().splitlines()) == 1


def test_ctrl_c_inside_a_verb_says_how_to_go_on(call, monkeypatch: pytest.MonkeyPatch):
    def doctor() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bloomery.cli.doctor.doctor", doctor)
    answer = call("doctor")
    assert answer.code == INTERRUPTED and "run the same command again" in answer.err


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(main_module, "build_app", lambda: fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main_module.main([])


def test_a_reader_that_leaves_is_no_error(tiny):
    command = (
        f"{sys.executable} -m bloomery.cli.main runs --home {tiny.home} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True)
    assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_verbs_are_registered():
    assert build_app().name == ("bloomery",)
    known = (
        "demo run curate tokenize audit plan pretrain generate chat serve runs energy doctor import export inspect keys"
    )
    assert {
        *known.split(),
        "adapt",
        "ask",
        "compare",
        "evaluate",
        "index",
        "prompt",
        "annotate",
        "requests",
        "sweep",
        "train",
        "translate",
    } == set(verbs())
