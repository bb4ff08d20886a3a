"""python-docs: what `inspect` and `pydoc` say of a module, found without importing it."""

from __future__ import annotations

import inspect
import json.decoder
import pydoc_data.topics
import subprocess
import sys
from pathlib import Path

import pytest

from bloomery.core.errors import ConfigError
from bloomery.corpus import python_docs
from bloomery.corpus.document import Document
from bloomery.corpus.python_docs import check_packages, missing_packages, python_documents, versions


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    """The documentation of the standard library and of one package."""
    problems: list[str] = []
    found = list(python_documents(["safetensors", "surely_not_installed"], lambda *said: problems.append(said[1])))
    assert all("lib2to3" in where or "bad" in where for where in problems)
    return found


def _text(documents: list[Document], name: str) -> str:
    return "\n\n".join(d.text.strip("\n") for d in documents if d.source == f"python-docs:{name}")


def test_docstrings_are_those_that_inspect_finds(documents: list[Document]):
    text = _text(documents, "json.decoder")
    assert text.startswith(inspect.getdoc(json.decoder) or "")
    assert f"class JSONDecoder\n{inspect.getdoc(json.decoder.JSONDecoder)}" in text
    raw = inspect.getdoc(json.decoder.JSONDecoder.raw_decode)
    assert f"def JSONDecoder.raw_decode(self, s, idx=0)\n{raw}" in text


def test_every_topic_of_pydoc_is_there(documents: list[Document]):
    for name, text in pydoc_data.topics.topics.items():
        found = _text(documents, f"topics.{name}")
        assert "".join(found.split()) == "".join(text.split()), name


def test_tests_and_other_peoples_packages_are_left_out(documents: list[Document]):
    names = {d.source.partition(":")[2] for d in documents}
    assert {"argparse", "asyncio.tasks", "safetensors.numpy"} <= names
    parts = {part for name in names if not name.startswith("topics.") for part in name.split(".")}
    assert not parts & {"test", "tests", "idle_test", "site-packages", "hypothesis"}


def test_documents_are_of_a_handy_size(documents: list[Document]):
    assert len(documents) > 700
    assert max(len(d.text) for d in documents) <= 2 * 8000
    assert sum(len(d.text) for d in documents) > 2_500_000


def test_nothing_is_imported_and_no_warning_leaks(tmp_path: Path):
    package = tmp_path / "explosive_package"
    package.mkdir()
    (package / "__init__.py").write_text('"""Documented \\d."""\nraise SystemExit("it was imported")\n')
    (package / "broken.py").write_text("def (:\n")
    (package / "single.py").write_text("class A:\n    async def f(self, *, x: int = 1) -> None:\n        'Does f.'\n")
    script = (
        "import sys, sysconfig; sys.path.insert(0, sys.argv[1]); sysconfig.get_path = lambda name: '/no/library'\n"
        "from bloomery.corpus.python_docs import python_documents\n"
        "said = []\n"
        "for document in python_documents(['explosive_package'], lambda *words: said.append(words[0])):\n"
        "    print(document.source, ascii(document.text))\n"
        "print(said)\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "python-docs:explosive_package 'Documented \\\\d.\\n'",
        "python-docs:explosive_package.single 'def A.f(self, *, x: int=1)\\nDoes f.\\n'",
        "['no_standard_library', 'broken_source']",
    ]


def test_a_package_that_is_not_installed_is_noted():
    assert missing_packages(["numpy", "surely_not_installed"]) == ["surely_not_installed"]
    found = versions(["numpy", "surely_not_installed"])
    assert found["numpy"][0].isdigit()
    assert found["surely_not_installed"] == "not installed"
    assert found["python"] == sys.version
    assert missing_packages(python_docs.DEFAULT_PACKAGES) == []


def test_only_top_level_names_are_packages():
    with pytest.raises(ConfigError, match=r"numpy\.linalg"):
        check_packages(["numpy.linalg"])
