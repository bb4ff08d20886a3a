"""Evaluation page: a whole evaluation to read: one HTML file, or a folder with a page for each task.

This module does not know how pages look (see `report_page`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError
from bloomery.evaluate.evaluation import read_evaluation
from bloomery.evaluate.report_page import figure_row, part_of, render_page, write_page
from bloomery.evaluate.task_report import report_of

_ENDINGS = (".html", ".htm")
_INDEX = "index.html"


def write_pages(artifact: Artifact, target: str | Path, *, against: Artifact | None = None) -> Path:
    """One file where `target` ends in .html, else a folder with index.html and a page for each task; returns the page
    to begin with. ConfigError for a file where a folder should be, or the other way round."""
    path = Path(target).expanduser()
    whole = path.suffix.lower() in _ENDINGS
    if path.is_dir() if whole else path.is_file():
        raise ConfigError(f"{path} is a {'folder' if whole else 'file'}", hint="FILE.html, or a folder")
    (path.parent if whole else path).mkdir(parents=True, exist_ok=True)
    if whole:
        return write_page(evaluation_page(artifact, against=against), path)
    for one in read_evaluation(artifact)["tasks"]:
        if _readable(one):
            page = evaluation_page(artifact, against=against, only=one["task"])
            write_page(page, path / _file(one["task"]))
    return write_page(evaluation_page(artifact, against=against, only=""), path / _INDEX)


def evaluation_page(artifact: Artifact, *, against: Artifact | None = None, only: str | None = None) -> str:
    """All tasks of an evaluation, with what it was compared with; `only` one of them, or "" for the table of figures
    alone, which links to the others' pages."""
    document = read_evaluation(artifact)
    results = document["tasks"]
    rows = []
    for place, one in enumerate(results):
        link = "" if not _readable(one) else f"#t{place}-task" if only is None else quote(_file(one["task"]))
        rows += [figure_row(one["task"], name, figure, link=link) for name, figure in one["metrics"].items()]
    parts = [
        part_of(report_of(artifact, one["task"], against=against), prefix=f"t{place}-", groups=_groups(one))
        for place, one in enumerate(results)
        if _readable(one) and only in (None, one["task"])
    ]
    name, sentences = document["model"]["name"], _sentences(document)
    return render_page(
        parts,
        title=f"Evaluation of {name}" if not only else f"{only}: {name}",
        lines=_lines(document),
        overview=rows if not only else [],
        sentences=sentences if not only and (len(sentences) > 1 or not parts) else [],  # one alone is the part's own
        made={"artifact": artifact.name},
    )


def _file(task: str) -> str:
    """A task's page in the folder; none takes the place of the first one."""
    name = f"{task}.html"
    return name if name.lower() != _INDEX else f"{task}-task.html"


def _readable(result: Mapping[str, Any]) -> bool:
    """Perplexities of texts have no scores of single samples."""
    return result["kind"] != "text"


def _groups(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups = result.get("groups", {})
    return [figure_row(group, name, figure) for group, own in groups.items() for name, figure in own.items()]


def _lines(document: Mapping[str, Any]) -> list[str]:
    lines = [f"The model: {document['model']['identity']}"]
    against = document.get("against")
    if against is not None:
        lines.append(f"Compared with {against['model']['name']} ({against['artifact']}) on the same samples")
    return lines


def _sentences(document: Mapping[str, Any]) -> list[str]:
    against = document.get("against", {})
    found = [f"{one['task']}, {one['metric']}: {one['sentence']}" for one in against.get("comparisons", ())]
    return found + [f"{name}, by preference: {one['sentence']}" for name, one in against.get("preferences", {}).items()]
