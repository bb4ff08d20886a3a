"""What import-linter cannot say: how light the package is to import, and that the lower floors hold no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.cli.main import verbs

SOURCE = Path(__file__).resolve().parents[2] / "src" / "bloomery"
_HEAVY = ("torch", "transformers", "pyarrow", "matplotlib", "fastapi")


def _loaded(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter has loaded after running `code`."""
    script = f"import sys\n{code}\nprint(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_importing_bloomery_loads_nothing_heavy():
    loaded = _loaded("import bloomery")
    assert not loaded & {*_HEAVY, "numpy", "cyclopts", "rich"}


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_help_loads_nothing_heavy(verb: str):
    tokens = [verb, "--help"] if verb else ["--help"]
    loaded = _loaded(f"from bloomery.cli.main import main\nassert main({tokens!r}) == 0")
    assert "cyclopts" in loaded
    assert not loaded & set(_HEAVY)


@pytest.mark.parametrize("floor", ["core", "energy", "corpus", "tokenizer"])
def test_lower_floors_never_import_torch(floor: str):
    for path in (SOURCE / floor).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            # safetensors.torch loads torch too
            assert not [n for n in names if n == "torch" or n.startswith("torch.") or n.endswith(".torch")], path


def test_nothing_is_unpickled():
    for path in SOURCE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not {"pickle", "cPickle", "dill", "joblib"} & set(names), path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}, path
