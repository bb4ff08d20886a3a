"""The build: a compiler that is missing or fails is one line; the sources run clean under sanitizers."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from bloomery.models.native import build as module
from bloomery.models.native.build import AVX2, HERE, SANITIZE, SOURCES, VNNI, BuildError, build, compiler, digest, main

DRIVER = Path(__file__).with_name("driver.cpp")
ATTENTION_DRIVER = Path(__file__).with_name("attention_driver.cpp")
INTEL = platform.machine() == "x86_64"


def test_the_digest_is_of_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    before = digest()
    for name in SOURCES:
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    monkeypatch.setattr(module, "HERE", tmp_path)
    assert digest() == before
    with (tmp_path / SOURCES[0]).open("a") as file:
        file.write("// more\n")
    assert digest() != before


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "")
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no C++ compiler") and error.count("\n") == 1


def test_a_compiler_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'x.cpp:1: error: no such thing' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    with pytest.raises(BuildError, match="no such thing") as raised:
        build(tmp_path / "out.so")
    assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken"]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # three compilations, on machines that may be busy
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_steps_run_clean_under_sanitizers(sanitizer: str, tmp_path: Path):
    """Random models in every format, step by step with three threads, by every set of kernels that runs here."""
    parts = {"driver": (DRIVER, []), "step": (HERE / "decoder_step.cpp", []), "plain": (HERE / "kernels.cpp", [])}
    if INTEL:
        parts["step"][1].append("-DBLOOMERY_WITH_AVX2")
        parts |= {"avx2": (HERE / "kernels.cpp", [*AVX2]), "vnni": (HERE / "kernels.cpp", [*VNNI])}
    for kernels in (None, "AVX2", "portable"):
        assert "steps" in ran_clean(sanitizer, parts, tmp_path, kernels)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_attention_runs_clean_under_sanitizers(sanitizer: str, tmp_path: Path):
    """Random shapes forward and backward, with one thread and with three, by both sets of kernels."""
    parts = {"driver": (ATTENTION_DRIVER, ["-DBLOOMERY_WITH_AVX2"] if INTEL else [])}
    if INTEL:
        parts["avx2"] = (HERE / "attention_training.cpp", [*AVX2])
    for kernels in (None, "portable"):
        assert "trials" in ran_clean(sanitizer, parts, tmp_path, kernels)


def ran_clean(sanitizer: str, parts: dict[str, tuple[Path, list[str]]], folder: Path, kernels: str | None) -> str:
    """What a driver printed; it is built of (source, flags) unless it is there."""
    found = compiler()
    if found is None:
        pytest.skip("no C++ compiler")
    flags = [one.replace("address,undefined", sanitizer) for one in SANITIZE]
    objects = []
    for name, (source, extra) in parts.items():
        objects.append(str(folder / f"{name}.o"))
        if Path(objects[-1]).exists():
            continue
        command = [found, "-std=c++17", "-Wno-psabi", "-pthread", f"-I{HERE}", *flags, *extra, "-c", str(source)]
        done = subprocess.run([*command, "-o", objects[-1]], capture_output=True, text=True, check=False)
        if done.returncode and "sanitize" in done.stderr:
            pytest.skip(f"{found} has no {sanitizer} sanitizer")
        assert done.returncode == 0, done.stderr
    linked = subprocess.run(
        [found, "-pthread", *flags, *objects, "-o", str(folder / "driver")],
        capture_output=True,
        text=True,
        check=False,
    )
    if linked.returncode:
        pytest.skip(f"{found} cannot link the {sanitizer} sanitizer")
    environment = {} if kernels is None else {"BLOOMERY_NATIVE_KERNELS": kernels}
    ran = subprocess.run([folder / "driver"], capture_output=True, text=True, timeout=200, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout
