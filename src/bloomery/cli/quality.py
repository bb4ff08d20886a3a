"""`bloomery curate --fit-classifier` and `--score-with`: classifiers of quality, fitted, calibrated and asked.

This module does not know how they are fitted, nor what rules make of their scores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ConfigError

if TYPE_CHECKING:
    from bloomery.core.recipe import Recipe
    from bloomery.corpus.problems import Problems

_SAID_SECONDS = 10.0
# Tables have text, or floats.
_LABELS = {"0": False, "1": True, "False": False, "True": True, "0.0": False, "1.0": True}


def fit(sources: tuple[str, ...], folder: str, settings: Recipe, common: Common) -> None:
    """Fit a classifier on labelled texts and say how it did on texts it had not seen."""
    from bloomery.corpus import CurateConfig
    from bloomery.corpus.classifier import fit_classifier
    from bloomery.corpus.problems import Problems

    config = settings.table("curate", CurateConfig)
    problems = Problems()
    labelled = list(_labelled(sources, config, problems))
    _note(problems)
    model = fit_classifier([text for text, _ in labelled], [good for _, good in labelled])
    model.save(folder)
    if common.json:
        print_json({"folder": folder, "problems": problems.total, **model.measured})
        return
    said = model.measured
    print(f"{folder}: of {said['texts']:,} texts, {said['good']:,} good; on texts it was not fitted on:")
    print(f"  area under the curve {said['area_under_curve']:.4f}, accuracy {said['accuracy']:.4f}")
    print(f"  calibration error {said['calibration_error']:.4f} (before: {said['calibration_error_before']:.4f})")
    for row in said["reliability"]:
        share = f"said {row['probability']:.3f}, are good {row['good']:.3f}"
        print(f"  {row['from']:.1f} to {row['to']:.1f}: {row['count']:,} texts, {share}")


def write_scores(sources: tuple[str, ...], config: Any, model: str, label: str, labelled: str, common: Common) -> None:
    """Write the table that `config.filter.scores` names, by a classifier of ours, calibrated on `labelled` texts."""
    from dataclasses import replace

    from bloomery.corpus.problems import Problems
    from bloomery.corpus.sources import read_sources
    from bloomery.engine import load
    from bloomery.engine.document_scores import calibrate, score_documents

    if not model:
        raise ConfigError("--calibrate needs a model to calibrate", hint="--score-with MODEL --scores FILE.jsonl")
    if not config.filter.scores:
        raise ConfigError("--score-with needs a table to write", hint="--scores FILE.jsonl")
    config = replace(config, sources=sources or config.sources)
    loaded = load(model, workspace=common.workspace())
    calibration = None
    if labelled:
        problems = Problems()
        calibration, figures = calibrate(loaded, _labelled((labelled,), config, problems), label=label)
        _note(problems)
        error, before = (f"{figures[name]:.4f}" for name in ("calibration_error", "calibration_error_before"))
        print(f"calibrated on {figures['texts']:,} texts: error {error} (before: {before})", file=sys.stderr)
    told = (lambda count: None) if common.quiet else _Counted()
    # What is wrong in the sources is told by the stage that reads them next.
    documents = read_sources(config, Problems())
    score_documents(loaded, documents, config.filter.scores, label=label, calibration=calibration, told=told)


def _note(problems: Problems) -> None:
    if problems.total:
        print(f"note: {problems.total:,} problems in the labels, the first: {problems.first()}", file=sys.stderr)


class _Counted:
    """Says how many documents are scored, one line in ten seconds at most."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __call__(self, count: int) -> None:
        if time.monotonic() - self._said >= _SAID_SECONDS:
            self._said = time.monotonic()
            print(f"score: {count:,} documents", file=sys.stderr, flush=True)


def _labelled(sources: tuple[str, ...], config: Any, problems: Problems) -> Iterator[tuple[str, bool]]:
    from dataclasses import replace

    from bloomery.corpus.sources import read_sources

    if not sources:
        raise ConfigError("no labelled texts", hint="bloomery curate LABELS.jsonl --fit-classifier FOLDER")
    fields = (*config.metadata_fields, "label")
    for document in read_sources(replace(config, sources=sources, metadata_fields=fields), problems):
        label = document.metadata.get("label")
        if str(label) not in _LABELS:
            raise ConfigError(f"{document.source}: the label is {label!r:.60}, not 0 or 1", hint="a field called label")
        yield document.text, _LABELS[str(label)]
