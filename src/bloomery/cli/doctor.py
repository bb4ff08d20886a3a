"""`bloomery doctor`: what this machine has, and what is in the way. This module changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

from bloomery.cli.options import Common, print_json
from bloomery.core.errors import BloomeryError, DeviceError

_NEEDED_DISK_BYTES = 2_000_000_000
_NEEDED_MEMORY_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Check:
    """`state` is "ok", "note" (works, but you may want to know) or "problem"."""

    name: str
    state: str
    text: str


def doctor(*, common: Common | None = None) -> None:
    """What this machine has, and what is in the way. Exit code 2 if something is."""
    common = common or Common()
    checks = [*_software(), *_machine(), *_meters(), *_home(common)]
    problems = [check for check in checks if check.state == "problem"]
    if common.json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            print(f"{check.state:8} {check.name:12} {check.text}")
    if problems:
        raise DeviceError(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}: {problems[0].text}")


def _software() -> list[Check]:
    python = platform.python_version()
    state = "ok" if tuple(map(int, python.split(".")[:2])) >= (3, 11) else "problem"
    checks = [Check("python", state, f"{python} on {platform.platform()}")]
    for package in ("bloomery", "torch", "tokenizers", "safetensors"):
        try:
            checks.append(Check(package, "ok", metadata.version(package)))
        except metadata.PackageNotFoundError:
            checks.append(Check(package, "problem", f"{package} is not installed: pip install {package}"))
    return checks


def _machine() -> list[Check]:
    import psutil

    try:
        import torch

        from bloomery.training.speed import bfloat16_is_fast, choose_device
    except (ImportError, OSError) as error:  # installed or not, what matters is whether it loads
        return [Check("torch loads", "problem", f"PyTorch cannot be loaded: {' '.join(str(error).split())}")]
    memory = psutil.virtual_memory()
    device = choose_device()
    checks = [
        Check("cores", "ok", f"{os.cpu_count()} logical, {torch.get_num_threads()} threads in PyTorch"),
        Check(
            "memory",
            "ok" if memory.available > _NEEDED_MEMORY_BYTES else "note",
            f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
        ),
    ]
    if device.type == "cuda":
        checks.append(Check("gpu", "ok", torch.cuda.get_device_name(device)))
    else:
        checks.append(Check("gpu", "note", "none that PyTorch can use; everything runs on the processor"))
    from bloomery.models.native.library import library

    found = library()
    checks.append(Check("decode step", "note" if found.calls is None else "ok", found.text))
    from bloomery.engine.images import told_of_images

    checks.append(Check("images", "ok", told_of_images()))
    fast = bfloat16_is_fast(device)
    checks.append(
        Check("bfloat16", "ok" if fast else "note", f"measured {'faster' if fast else 'slower'} than float32")
    )
    return checks


def _meters() -> list[Check]:
    from bloomery.energy import describe_meters

    described: dict[str, Any] = describe_meters()
    notes = described.pop("notes", [])
    checks = []
    for name, text in described.items():
        checks.append(Check(f"energy {name}", "note" if "estimated" in str(text) else "ok", str(text)))
    return [*checks, *(Check("energy", "note", note) for note in notes)]


def _home(common: Common) -> list[Check]:
    try:
        workspace = common.workspace()
        read_only = workspace.ledger.read_only
    except BloomeryError as error:
        return [Check("home", "problem", error.one_line())]
    free = shutil.disk_usage(workspace.root).free
    state = "ok" if free > _NEEDED_DISK_BYTES else "problem"
    return [
        Check("home", "problem", f"{workspace.root} can only be read: --home DIR or BLOOMERY_HOME chooses another")
        if read_only
        else Check("home", "ok", f"{workspace.root} is writable"),
        Check("disk", state, f"{free / 1e9:.1f} GB free at {workspace.root}"),
    ]
