"""The sandbox: what programs of strangers try, and that none of it gets through; no wall, no run."""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

from bloomery.core.errors import BloomeryError, ConfigError, DeviceError, MissingExtraError
from bloomery.evaluate.scorers.sandbox import MAX_CODE, Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="CPython is fenced in on Linux only")


@pytest.fixture(scope="module")
def process() -> Sandbox:
    return Sandbox(wall="process", seconds=2, memory_mebibytes=128)


@pytest.fixture(scope="module")
def auto() -> Sandbox:
    return Sandbox(seconds=2, memory_mebibytes=128)


def test_what_is_right_passes(process: Sandbox, auto: Sandbox):
    for program in (
        "assert 1 + 1 == 2",
        "def f():\n    yield 1\nassert list(f()) == [1]",
        "import heapq, re, math, json, collections, itertools, functools, typing, random, string, datetime",
        "print('hello')\nassert 'é' == '\\u00e9'",
    ):
        assert process.run(program).passed and auto.run(program).passed
    assert auto.run("assert 1 + 1 == 2").wall == "monty"
    assert auto.run("import heapq").wall == "process"


@pytest.mark.parametrize(
    "program, why",
    [
        ("assert 1 == 2", "AssertionError"),
        ("def", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("import os; os._exit(0)", "ended before its end"),
        ("raise SystemExit(0)", "ended before its end"),
        ("def f(n): return f(n + 1)\nf(0)", "RecursionError"),
    ],
)
def test_what_is_wrong_fails(auto: Sandbox, program: str, why: str):
    found = auto.run(program)
    assert not found.passed and why in found.why and found.wall == "process" and "\n" not in found.why


def test_an_endless_loop_ends(process: Sandbox):
    for program in (
        "while True: pass",
        "import time; time.sleep(60)",
        "try:\n  while True: pass\nexcept: pass\nwhile 1: 1",
    ):
        began = time.perf_counter()
        assert not process.run(program).passed and time.perf_counter() - began < 8


def test_a_fork_bomb_is_none(process: Sandbox):
    before = len(list(Path("/proc").iterdir()))
    for program in ("import os\nwhile True: os.fork()", "import subprocess; subprocess.run(['/bin/true'])"):
        found = process.run(program)
        assert not found.passed and "BlockingIOError" in found.why
    assert len(list(Path("/proc").iterdir())) < before + 50
    threads = "import threading, time\nfor _ in range(3000): threading.Thread(target=time.sleep, args=(9,)).start()"
    assert not process.run(threads).passed


def test_memory_is_bounded(process: Sandbox):
    for program in (
        "x = bytearray(1 << 30)",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "import mmap\nm = mmap.mmap(-1, 1 << 29)\nfor n in range(0, 1 << 29, 4096): m[n] = 1",
        "import os\nfd = os.memfd_create('x')\nfor _ in range(300): os.write(fd, b'x' * (1 << 20))",
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))",
    ):
        assert not process.run(program).passed, program
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert process.run("import sys\nwhile True: sys.stdout.write('x' * 1000000)").why == "printed too much"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000  # KiB


def test_files_are_not_there(process: Sandbox, tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    made = tmp_path / "made.txt"
    for program in (
        f"open({str(secret)!r}).read()",
        "open('/etc/passwd').read()",
        f"open({str(made)!r}, 'w').write('x')",
        "open('/tmp/bloomery-made', 'w')",
        "import os; os.listdir('/')",
        f"import os; os.unlink({str(secret)!r})",
        f"import os; os.symlink('/etc/passwd', {str(made)!r})",
        "open('/proc/1/environ').read()",
        "open('/proc/self/mem', 'r+b')",
    ):
        found = process.run(program)
        assert not found.passed and "Error" in found.why, program
    assert secret.read_text() == "secret" and not made.exists() and not Path("/tmp/bloomery-made").exists()


def test_the_network_is_not_there(process: Sandbox):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        for program in (
            f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)",
            "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
            "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()",
            "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
        ):
            assert not process.run(program).passed, program
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_the_host_is_not_told(process: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BLOOMERY_SECRET", "secret")
    assert process.run("import os; assert 'BLOOMERY_SECRET' not in os.environ").passed
    assert process.run("import sys; assert sys.stdin.read() == ''").passed
    assert not process.run(f"import os; os.kill({os.getpid()}, 9)").passed
    assert not process.run("import os; os.kill(os.getppid(), 9)").passed


def test_monty_alone_fails_what_it_does_not_know():
    monty = Sandbox(wall="monty", seconds=0.5)
    assert monty.run("assert sum([1, 2]) == 3").passed
    for program in ("import heapq", "while True: pass", "x = 'a'\nwhile True: x += x", "open('/etc/passwd').read()"):
        found = monty.run(program)
        assert not found.passed and found.wall == "monty" and found.seconds < 8
    assert not monty.run("import time\ntime.sleep(5)").passed


def test_from_several_threads(auto: Sandbox):
    found: list[bool] = []
    work = [
        threading.Thread(target=lambda n=n: found.append(auto.run(f"assert {n} % 2 == 0").passed)) for n in range(6)
    ]
    for one in work:
        one.start()
    for one in work:
        one.join()
    assert sorted(found) == [False] * 3 + [True] * 3


def test_what_is_not_run(auto: Sandbox):
    for program in ("x" * (MAX_CODE + 1), "x = '\0'", "x = '\udcff'"):
        found = auto.run(program)
        assert not found.passed and found.wall == ""


def test_without_a_wall_nothing_runs(monkeypatch: pytest.MonkeyPatch):
    import sandlock

    monkeypatch.setattr(sandlock, "landlock_abi_version", lambda: 3)
    for wall in ("auto", "process"):
        with pytest.raises(DeviceError, match="would not be fenced in"):
            Sandbox(wall=wall)  # type: ignore[arg-type]
    assert Sandbox(wall="monty").wall == "monty"
    monkeypatch.undo()
    for module in ("sandlock", "pydantic_monty"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(MissingExtraError) as caught:
                Sandbox()
            assert 'pip install "bloomery[evaluate]"' in caught.value.hint
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(BloomeryError, match="Linux only"):
        Sandbox()


def test_settings():
    for settings in ({"seconds": 0.0}, {"memory_mebibytes": 1}):
        with pytest.raises(ConfigError):
            Sandbox(**settings)
