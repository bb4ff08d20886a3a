"""Python docs: the documentation that every Python installation already carries.

That is the language reference in `pydoc_data.topics` and the docstrings of modules, classes and functions of the
standard library and of named installed packages. Sources are parsed with `ast`; nothing is imported or run. Tests
are left out. This module does not know splits or shards.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from bloomery.core.errors import ConfigError
from bloomery.corpus.document import Document, cut_text

NAME = "python-docs"
# Packages that bloomery itself depends on, so that every installation has them.
DEFAULT_PACKAGES = (
    "numpy",
    "torch",
    "pyarrow",
    "rich",
    "fastapi",
    "pydantic",
    "matplotlib",
    "jinja2",
    "tokenizers",
    "safetensors",
    "psutil",
    "uvicorn",
    "cyclopts",
    "prometheus_client",
)
# A module's documentation is cut between its classes and functions into documents of about this many characters.
_DOCUMENT_CHARACTERS = 8000
_MAX_SOURCE_BYTES = 4 * 1024 * 1024
_SKIPPED_FOLDERS = frozenset(
    {
        "test",
        "tests",
        "testing",
        "idle_test",
        "site-packages",
        "dist-packages",
        "lib-dynload",
        "__pycache__",
        "_bundled",
    }
)
Problem = Callable[[str, str, str], None]


def check_packages(packages: Sequence[str]) -> None:
    """ConfigError for a name that is not that of a top-level package."""
    for name in packages:
        if not name.isidentifier():
            raise ConfigError(
                f'"{name}" is not the import name of a top-level package', hint='packages = ["numpy", "rich"]'
            )


def missing_packages(packages: Sequence[str]) -> list[str]:
    """The named packages that are not installed here."""
    return [name for name in packages if not _roots(name)]


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of Python and of the named packages: what `python_documents` depends on, without reading it."""
    found = {"python": sys.version}
    for name in packages:
        found[name] = _version(name) if _roots(name) else "not installed"
    return found


def python_documents(packages: Sequence[str], problem: Problem) -> Iterator[Document]:
    """Documents of the standard library, then of each package in order; modules in path order.

    `problem(reason, where, detail)` is told of a source file that does not parse.
    """
    library = Path(sysconfig.get_path("stdlib"))
    if library.is_dir():
        yield from _topics(library / "pydoc_data" / "topics.py", problem)
        yield from _tree(library, "", problem, skip=frozenset({"pydoc_data"}))
    else:  # an embedded Python keeps it in a zip file, without sources
        problem("no_standard_library", str(library), "its sources are not on disk")
    for name in packages:
        for root in _roots(name):
            if root.is_dir():
                yield from _tree(root, name, problem)
            else:
                yield from _module(root, name, problem)


def _topics(path: Path, problem: Problem) -> Iterator[Document]:
    tree = _parse(path, problem)
    for node in tree.body if tree else []:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if not isinstance(value, ast.Dict):
            continue
        for key, text in ast.literal_eval(value).items():
            yield from _documents([text], f"topics.{key}")


def _tree(root: Path, package: str, problem: Problem, *, skip: frozenset[str] = frozenset()) -> Iterator[Document]:
    for path in _sources(root, skip):
        parts = [*([package] if package else []), *path.relative_to(root).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        yield from _module(path, ".".join(parts), problem)


def _sources(folder: Path, skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            unwanted = path.name in _SKIPPED_FOLDERS or path.name in skip
            if not unwanted and path.name.isidentifier() and not path.is_symlink():
                yield from _sources(path)
        elif path.suffix == ".py" and not path.name.startswith("test_"):
            yield path


def _module(path: Path, name: str, problem: Problem) -> Iterator[Document]:
    with _no_collection():
        tree = _parse(path, problem)
        blocks = _docstrings(tree) if tree is not None else []
        del tree
    yield from _documents(blocks, name)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the cyclic garbage collector: walking each syntax tree while it grows takes a quarter of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _docstrings(tree: ast.Module) -> list[str]:
    documentation = ast.get_docstring(tree)
    return [*([documentation] if documentation else []), *_blocks(tree.body, "")]


def _blocks(body: Sequence[ast.stmt], prefix: str) -> Iterator[str]:
    """`class X` or `def X.f(arguments)` and the docstring below it, for each definition that has one."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            if documentation := ast.get_docstring(node):
                yield f"class {prefix}{node.name}\n{documentation}"
            yield from _blocks(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (documentation := ast.get_docstring(node)):
            yield f"def {prefix}{node.name}({ast.unparse(node.args)})\n{documentation}"


def _documents(blocks: Sequence[str], name: str) -> Iterator[Document]:
    """The blocks gathered into documents of about _DOCUMENT_CHARACTERS; a longer block is cut at blank lines."""
    pieces = [piece for block in blocks for piece in cut_text(block, _DOCUMENT_CHARACTERS)]
    groups: list[list[str]] = []
    size = _DOCUMENT_CHARACTERS
    for piece in pieces:
        if size + len(piece) > _DOCUMENT_CHARACTERS:
            groups.append([])
            size = 0
        groups[-1].append(piece)
        size += len(piece)
    for part, group in enumerate(groups):
        text = "\n\n".join(piece.strip("\n") for piece in group) + "\n"
        yield Document.of(text, f"{NAME}:{name}", {"part": part} if len(groups) > 1 else {})


def _parse(path: Path, problem: Problem) -> ast.Module | None:
    try:
        if path.stat().st_size > _MAX_SOURCE_BYTES:
            problem("source_too_long", str(path), f"more than {_MAX_SOURCE_BYTES:,} bytes")
            return None
        source = path.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's source are not the user's concern
            return ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem("broken_source", str(path), f"{type(error).__name__}: {error}")
        return None


def _roots(package: str) -> list[Path]:
    """The folders (several for a namespace package) or the one file of an installed package; [] if there is none."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [Path(p) for p in spec.submodule_search_locations if Path(p).is_dir()]
    return [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(package, [])
        return ", ".join(f"{name} {metadata.version(name)}" for name in sorted(set(distributions))) or "unknown"
