"""Document scores: the probability of one label for each document, by any model here that classifies texts.

The file that this writes is what a corpus's rule "score" reads, so that the floor of corpora knows no models. This
module does not know rules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bloomery.core.errors import ConfigError, nearest
from bloomery.corpus import Document


def score_documents(
    model: Any,
    documents: Iterable[Document],
    path: str | Path,
    *,
    label: str = "",
    told: Callable[[int], None] = lambda count: None,
) -> int:
    """Write {id, score} of every document that is not blank as JSONL; how many there were.

    `model` is what `load` gives of a classifier; `label` the class whose probability is the score, "" the last one;
    `told` hears how many there are so far. The file is whole or not there. ConfigError for a model that does not
    classify texts, or has no such label.
    """
    if not callable(getattr(model, "classify", None)):
        raise ConfigError(f"{model.name} does not classify texts", hint="bloomery train --set train.objective=classes")
    path = Path(path)
    part = path.with_name(path.name + ".part")
    count, column = 0, -1
    with part.open("w", encoding="utf-8") as stream:
        for document in documents:
            if not document.text.strip():
                continue
            found = sorted(model.classify(document.text, top=1 << 20), key=lambda one: one.id)
            if column < 0:
                column = _column([one.text for one in found], label)
            stream.write(json.dumps({"id": document.id, "score": math.exp(found[column].logprob)}) + "\n")
            count += 1
            told(count)
    part.replace(path)
    return count


def _column(labels: list[str], label: str) -> int:
    if not label:
        return len(labels) - 1
    if label not in labels:
        raise ConfigError(f'the model has no label "{label}"', hint=nearest(label, labels))
    return labels.index(label)
