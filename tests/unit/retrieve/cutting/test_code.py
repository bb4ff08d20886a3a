"""Code: sections by definition, for Python by its own parser, for others by lines."""

from __future__ import annotations

import ast
from pathlib import Path

from bloomery.retrieve.cutting import code
from bloomery.retrieve.cutting.code import code_sections, is_code

PYTHON = '''"""Doc."""
import os

# of f
@cached
def f(x):
    return x

class A(B):
    """A."""
    n = 1

    def g(self):
        pass

    async def h(self):
        pass

print(f(1))
'''


def headed(text: str, name: str) -> list[tuple[str, list[str]]]:
    return [(one.heading, [text[b.start : b.end] for b in one.blocks]) for one in code_sections(text, name, {})]


def test_python():
    found = headed(PYTHON, "x.py")
    assert [heading for heading, _ in found] == ["", "def f", "class A", "class A > def g", "class A > def h", ""]
    assert found[1][1] == ["# of f\n@cached\ndef f(x):\n    return x"]
    assert found[3][1] == ["    def g(self):\n        pass"]
    assert found[5][1] == ["print(f(1))"]


def test_every_definition_of_a_real_module_heads_a_section():
    text = Path(code.__file__).read_text(encoding="utf-8")
    names = {f"def {node.name}" for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    assert names <= {heading for heading, _ in headed(text, "code.py")}


def test_braces():
    text = "package main\n\n// Add adds.\nfunc Add(a int) int {\n\tif a {\n\n\t\treturn 1\n\t}\n}\n\n"
    text += "type T struct {\n\tx int\n}\n"
    found = headed(text, "m.go")
    assert [heading for heading, _ in found] == ["", "func Add(a int) int", "type T struct"]
    assert found[1][1] == ["// Add adds.\nfunc Add(a int) int {\n\tif a {\n\n\t\treturn 1\n\t}\n}"]


def test_python_that_does_not_parse_is_read_by_lines():
    assert [heading for heading, _ in headed("def f(:\n  x\n\ndef g():\n  y\n", "x.py")] == ["def f(", "def g()"]


def test_what_is_code():
    assert is_code("a.py", {}) and is_code("a.rs", {}) and not is_code("a.md", {}) and not is_code("a.txt", {})
    assert is_code("a", {"language": "Ruby"}) and not is_code("a.txt", {"language": "en"})
