"""Classic model: a fitted one as an `Answerer`, and its folder: safetensors and JSON.

    fitted = load_classic(folder)
    fitted.answer(sample)          # the most probable label, its probability as confidence

This module does not know how one is fitted (see `fitting`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from bloomery.adapt.classic.estimators import Estimator, Kind
from bloomery.adapt.classic.features import FeatureConfig, Features, count
from bloomery.adapt.classic.probabilities import Probabilities
from bloomery.adapt.making import Making
from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError, DataError
from bloomery.evaluate.sample import Answered, Sample

ARRAYS_FILE, CONFIG_FILE = "classic.safetensors", "classic.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ClassicModel:
    """See the module. Safe to use from several threads."""

    labels: tuple[str, ...]
    """In the order of the columns of `probabilities`."""
    features: Features
    estimator: Estimator
    calibrated: Probabilities
    making: Making = field(default_factory=Making)
    chosen: Mapping[str, Any] = field(default_factory=dict)
    """What the search tried and took."""

    @property
    def name(self) -> str:
        return f"classic {self.estimator.kind} ({self.features.config.kind}, {self.making.labels:,} labels)"

    def probabilities(self, samples: Sequence[Sample]) -> NDArray[np.float64]:
        """(N, labels)."""
        if not samples:
            return np.zeros((0, len(self.labels)))
        rows = self.features.rows(count(samples, self.features.config))
        return self.calibrated(self.estimator.scores(rows))

    def answer(self, sample: Sample) -> Answered:
        """The most probable label, of the sample's choices where it has some. Asks no tokens of anybody."""
        began = time.perf_counter()
        allowed = [n for n, label in enumerate(self.labels) if not sample.choices or label in sample.choices]
        try:
            if not allowed:
                raise DataError("this model knows none of the sample's choices")
            found = self.probabilities([sample])[0]
        except DataError as error:
            seconds = time.perf_counter() - began
            return Answered(sample_id=sample.id, text="", error=error.one_line(), seconds=seconds)
        best = max(allowed, key=lambda n: found[n])
        return Answered(
            sample_id=sample.id,
            text=self.labels[best],
            prompt_tokens=0,
            completion_tokens=0,
            seconds=time.perf_counter() - began,
            confidence=float(found[best] / max(found[allowed].sum(), 1e-300)),
            details={"probabilities": {label: float(p) for label, p in zip(self.labels, found, strict=True)}},
        )

    def save(self, folder: str | Path) -> None:
        """Write it into a folder, which is made."""
        from safetensors.numpy import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        parts = {"features": self.features.arrays, "estimator": self.estimator.arrays}
        arrays = {f"{part}.{name}": one for part, named in parts.items() for name, one in named.items()}
        arrays = {name: np.ascontiguousarray(one) for name, one in arrays.items()}
        save_file(arrays, folder / ARRAYS_FILE)
        told = {
            "format": _FORMAT,
            "labels": list(self.labels),
            "kind": self.estimator.kind,
            "settings": dict(self.estimator.settings),
            "features": to_dict(self.features.config),
            "calibration": self.calibrated.to_list(),
            "making": self.making.to_dict(),
            "chosen": dict(self.chosen),
        }
        (folder / CONFIG_FILE).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")


def load_classic(folder: str | Path) -> ClassicModel:
    """ConfigError if there is none in the folder, DataError if it makes no sense."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder).expanduser()
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"no classic model in {folder}", hint=f"a folder with {CONFIG_FILE}")
    try:
        told = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if told["format"] != _FORMAT or told["kind"] not in get_args(Kind):
            raise ValueError("a format or kind that this version does not read")
        arrays = load_file(folder / ARRAYS_FILE)
        parts = {
            part: {name.removeprefix(f"{part}."): one for name, one in arrays.items() if name.startswith(f"{part}.")}
            for part in ("features", "estimator")
        }
        model = ClassicModel(
            labels=tuple(map(str, told["labels"])),
            features=Features(from_dict(FeatureConfig, told["features"]), parts["features"]),
            estimator=Estimator(cast(Kind, told["kind"]), parts["estimator"], told["settings"]),
            calibrated=Probabilities.from_list(told["calibration"]),
            making=Making.from_dict(told["making"]),
            chosen=told["chosen"],
        )
        _check(model)
        return model
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise DataError(f"{folder} is not a classic model: {error}", hint="fit it again") from error


def _check(model: ClassicModel) -> None:
    """Arrays of a stranger's file must not send a lookup outside of them."""
    arrays, columns = model.estimator.arrays, 1 if len(model.labels) == 2 else len(model.labels)
    if model.estimator.kind in ("logistic", "bayes"):
        if arrays["weight"].ndim != 2 or arrays["weight"].shape[0] != columns or arrays["offset"].shape != (columns,):
            raise ValueError("weights and labels do not fit")
    elif model.estimator.kind == "boosted":
        total = len(arrays["value"])
        names = ("feature", "threshold", "missing_left", "left", "right", "leaf")
        if any(arrays[name].shape != (total,) for name in names) or arrays["offset"].shape != (columns,):
            raise ValueError("trees and labels do not fit")
        forward = np.arange(total)
        inner = arrays["leaf"] == 0
        for name in ("left", "right"):
            if ((arrays[name] <= forward) & inner).any() or (arrays[name] >= total).any():
                raise ValueError("a tree that goes round")
        if arrays["root"].shape[1] != columns or (arrays["root"] < 0).any() or (arrays["root"] >= total).any():
            raise ValueError("trees without roots")
    elif arrays["centre"].ndim != 2:
        raise ValueError("centres are rows")
