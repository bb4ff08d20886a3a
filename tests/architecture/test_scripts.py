"""What stands beside the package (experiments, benchmarks, pages' writers) imports what is there."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
SCRIPTS = sorted(path for name in ("experiments", "benchmarks", "docs") for path in (PROJECT / name).glob("*.py"))


def missing(text: str) -> list[str]:
    """What a source takes from the package, and the package does not have."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "bloomery":
            module = importlib.import_module(node.module or "")
            for one in node.names:
                inner = f"{node.module}.{one.name}"
                is_module = hasattr(module, "__path__") and importlib.util.find_spec(inner) is not None
                if not hasattr(module, one.name) and not is_module:
                    found.append(inner)
        elif isinstance(node, ast.Import):
            named = [one.name for one in node.names if one.name.split(".")[0] == "bloomery"]
            found += [name for name in named if importlib.util.find_spec(name) is None]
    return found


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_script_imports_what_is_there(path: Path):
    assert missing(path.read_text(encoding="utf-8")) == []


def test_what_is_not_there_is_found():
    assert missing("from bloomery.core.errors import ConfigError, Nothing") == ["bloomery.core.errors.Nothing"]
    assert missing("import bloomery.nothing") == ["bloomery.nothing"]
    with pytest.raises(ModuleNotFoundError):
        missing("from bloomery.nothing import more")
