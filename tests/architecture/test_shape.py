"""The shape of the house: one noun a file with a docstring and a test of its name, nothing too long, READMEs short."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
SOURCE = PROJECT / "src" / "bloomery"
MODULES = sorted(p for p in SOURCE.rglob("*.py"))
NOUNS = [p for p in MODULES if p.name != "__init__.py"]
FLOORS = sorted(p for p in SOURCE.iterdir() if p.is_dir() and (p / "__init__.py").is_file())


def _name(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_module_has_a_docstring_and_a_bearable_length(path: Path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert text.count("\n") <= 500
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.end_lineno:
            assert node.end_lineno - node.lineno + 1 <= 60, node.name


@pytest.mark.parametrize("path", NOUNS, ids=_name)
def test_module_has_a_test_of_its_name(path: Path):
    floor = path.relative_to(SOURCE).parent
    assert (PROJECT / "tests" / "unit" / floor / f"test_{path.stem}.py").is_file()


@pytest.mark.parametrize("path", NOUNS, ids=_name)
def test_module_is_called_after_what_it_holds(path: Path):
    assert path.stem not in {"utils", "util", "common", "helpers", "helper", "misc"}


@pytest.mark.parametrize("floor", FLOORS, ids=_name)
def test_floor_has_a_short_readme(floor: Path):
    lines = (floor / "README.md").read_text(encoding="utf-8").splitlines()
    assert 3 <= len(lines) <= 40


def test_help_pages_are_up_to_date():
    from bloomery.cli.help_pages import help_pages

    assert (PROJECT / "docs" / "cli.md").read_text(encoding="utf-8") == help_pages()


def test_recipe_page_is_up_to_date():
    from bloomery.cli.recipe_page import recipe_page

    wanted = recipe_page()
    assert (PROJECT / "docs" / "recipe.md").read_text(encoding="utf-8") == wanted


def test_readme_names_every_file():
    done = subprocess.run([sys.executable, PROJECT / "docs" / "write_house.py", "--check"], timeout=60, check=False)
    assert done.returncode == 0, "run: python docs/write_house.py"
