"""Code: the sections of a source file, one for each function, class and stretch between them, headed by their names.

Python is read with its own parser; where that fails, and for other languages, a section begins at a line without
indentation that follows a blank line or opens what such languages call a definition. Comments and decorators stay with
what they stand above. This module does not know sizes.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bloomery.corpus.code_languages import language_of
from bloomery.retrieve.cutting.block import Block, Section

_NO_CODE = frozenset({"", "Markdown", "reStructuredText", "HTML", "Text", "TeX", "JSON", "YAML", "TOML", "XML", "CSV"})
_COMMENT = re.compile(r"(?:#|//|/\*|\*|--|;|%|@|\[)")
_CLOSING = re.compile(r"[)\]}]|end\b|else\b|fi\b|done\b")
_DEFINITION = re.compile(
    r"(?:(?:pub(?:\([a-z]+\))?|export|default|public|private|protected|static|final|abstract|async|inline|virtual|"
    r"extern|unsafe|const|local)\s+)*"
    r"(?:class|interface|struct|enum|trait|impl|func|fn|function|def|module|namespace|type|sub|defmodule|macro_rules!)\b"
)
_HEADING_CHARACTERS = 120


def is_code(name: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a document is a file of code, by what its reader said or by its name."""
    return _language(name, metadata) not in _NO_CODE


def _language(name: str, metadata: Mapping[str, Any]) -> str:
    told = metadata.get("language")
    if isinstance(told, str) and told[:1].isupper():  # other readers give the codes of human languages
        return told
    return language_of(name, "") or ""


def code_sections(text: str, name: str, metadata: Mapping[str, Any]) -> list[Section]:
    """The sections of a file, in order; together they hold every line that is not blank."""
    language = _language(name, metadata)
    if language in ("Python", ""):
        try:
            return _python(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            pass  # another version's, a template, or not Python at all
    return _by_lines(text)


def _line_starts(text: str) -> list[int]:
    r"""Where lines begin, as Python's parser counts them: \n, \r\n and \r end one."""
    return [0, *(found.end() for found in re.finditer(r"\r\n|\n|\r", text))]


def _python(text: str) -> list[Section]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes in a stranger's strings
        tree = ast.parse(text)
    starts = _line_starts(text)
    cuts = dict(_definitions(tree.body, "", text, starts))
    return _between(text, starts, cuts)


def _definitions(
    body: Sequence[ast.stmt], above: str, text: str, starts: Sequence[int], start: int = 1
) -> Iterator[tuple[int, str]]:
    """(line, heading) where a section begins, lines from 1: at definitions, and behind each at what follows."""
    after = start
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            kind = "class" if isinstance(node, ast.ClassDef) else "def"
            heading = f"{above}{kind} {node.name}"
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            first = _with_comments(text, starts, first, after)
            yield first, heading
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, f"{heading} > ", text, starts, first + 1)
            after = (node.end_lineno or node.lineno) + 1
            yield after, above.removesuffix(" > ")
        else:
            after = (node.end_lineno or node.lineno) + 1


def _with_comments(text: str, starts: Sequence[int], line: int, least: int) -> int:
    """The first of the comment lines right above a line."""
    while line > least and text[starts[line - 2] : starts[line - 1]].strip().startswith("#"):
        line -= 1
    return line


def _by_lines(text: str) -> list[Section]:
    starts = _line_starts(text)
    cuts: dict[int, str] = {1: ""}
    blank, comment = False, 0
    for number, start in enumerate(starts, start=1):
        end = starts[number] if number < len(starts) else len(text)
        line = text[start:end].rstrip()
        if not line:
            blank, comment = True, 0
            continue
        outer = not line[0].isspace() and not _CLOSING.match(line)
        if outer and _COMMENT.match(line):
            comment = comment or number
        elif outer and (blank or comment or _DEFINITION.match(line)):
            cuts[comment or number] = line.strip(" {:").strip()[:_HEADING_CHARACTERS] if _DEFINITION.match(line) else ""
            comment = 0
        else:
            comment = 0
        blank = False
    return _between(text, starts, cuts)


def _between(text: str, starts: Sequence[int], cuts: Mapping[int, str]) -> list[Section]:
    """The sections that begin at lines; neighbours without a heading are one, their blocks apart."""
    found: list[Section] = []
    lines = sorted({1, *cuts})
    for place, line in enumerate(lines):
        if line > len(starts):
            break
        past = lines[place + 1] if place + 1 < len(lines) else len(starts) + 1
        start, end = starts[line - 1], starts[past - 1] if past <= len(starts) else len(text)
        piece = text[start:end]
        if not piece.strip():
            continue
        blank = len(piece) - len(piece.lstrip())
        first = start + piece.rfind("\n", 0, blank) + 1  # indentation stays
        block = Block(first, start + len(piece.rstrip()), "lines")
        heading = cuts.get(line, "")
        if not heading and found and not found[-1].heading:
            found[-1] = Section("", (*found[-1].blocks, block))
        else:
            found.append(Section(heading, (block,)))
    return found
