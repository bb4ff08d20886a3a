"""Build of the native library (decode steps, attention of training): some calls of a C++ compiler, no build system.

    python -m bloomery.models.native.build

The package's own build runs this too (`hatch_build.py`), and goes on without it where there is no compiler. Each set of
instructions is an object file of its own; which is used is decided when the library is loaded. Only the standard
library is imported here: a build has nothing else.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARY = HERE / "_decoder_step.so"
SOURCES = ("vectors.h", "decoder_step.h", "decoder_step.cpp", "kernels.cpp", "attention_training.cpp")
SANITIZE = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer")
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi")
AVX2 = ("-mavx2", "-mfma", "-mf16c")
# Registers of 256 bits: longer ones are no faster for what waits for memory, and slow some processors down.
VNNI = (*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mprefer-vector-width=256")
_SECONDS = 300


class BuildError(Exception):
    """No compiler, or it failed; the message is one line."""


def digest() -> str:
    """Of the sources: a library that was built of others is not used."""
    hashed = hashlib.sha256()
    for name in SOURCES:
        hashed.update((HERE / name).read_bytes())
    return hashed.hexdigest()[:16]


def compiler() -> str | None:
    """The C++ compiler: the variable CXX, or the first that is found; None if there is none."""
    names = (os.environ.get("CXX", ""), "c++", "g++", "clang++")
    return next((found for name in names if name and (found := shutil.which(name))), None)


def build(target: Path = LIBRARY, *, extra: Sequence[str] = ()) -> Path:
    """Compile to `target`, which is there whole or not at all; `extra` are flags. Raises BuildError."""
    found = compiler()
    if found is None:
        raise BuildError("no C++ compiler was found (the variable CXX, c++, g++, clang++)")
    intel = platform.machine().lower() in ("x86_64", "amd64")
    with tempfile.TemporaryDirectory(prefix="bloomery-build-") as folder:
        both = ("-DBLOOMERY_WITH_AVX2",) if intel else ()
        parts = [
            ("decoder_step.cpp", "step.o", (f'-DBLOOMERY_SOURCE="{digest()}"', *both)),
            ("attention_training.cpp", "attention.o", both),
            ("kernels.cpp", "plain.o", ()),
        ]
        if intel:
            parts += [("kernels.cpp", "avx2.o", AVX2), ("kernels.cpp", "vnni.o", VNNI)]
            parts += [("attention_training.cpp", "attention_avx2.o", AVX2)]
        for source, name, flags in parts:
            _call([found, *_FLAGS, *extra, *flags, "-c", str(HERE / source), "-o", str(Path(folder) / name)])
        made = Path(folder) / target.name
        objects = [str(Path(folder) / name) for _, name, _ in parts]
        _call([found, *_FLAGS, *extra, "-shared", *objects, "-o", str(made)])
        beside = target.with_name(f"{target.name}.{os.getpid()}")
        try:
            shutil.copy(made, beside)
            beside.replace(target)
        except OSError as error:
            raise BuildError(f"{target} cannot be written: {error.strerror}") from error
        finally:
            beside.unlink(missing_ok=True)
    return target


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines() or ["?"]
        raise BuildError(f"{command[0]} failed: {lines[0][:300]}")


def main() -> int:
    """Build in place, and say so."""
    try:
        print(build())
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
