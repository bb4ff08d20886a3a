"""Real data as the samples of `recipes/compare_*.toml`: SMS spam, SST-2, SciFact claims with abstracts, ARC-easy, card
payments as columns of numbers.

    python experiments/compare_tasks.py FOLDER
    bloomery pretrain ...                                    # or any model
    bloomery compare recipes/compare_sms.toml --set samples=FOLDER/sms.jsonl --set model=MODEL

Texts come from the folder of real data (`BLOOMERY_DATA`, or beside the project); nothing of them is kept here.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import data, write_jsonl
from labels_quality import transactions

from bloomery.adapt.classic.transactions import history

_VERDICTS = {"SUPPORT": "supported", "CONTRADICT": "refuted"}
_QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")  # as NumPy prints lists of texts


def sms() -> Iterator[dict[str, Any]]:
    """Messages, ham or spam (Almeida and Hidalgo 2011)."""
    with lzma.open(data("classify", "sms_spam.tsv.xz"), "rt", encoding="utf-8") as file:
        for line in file:
            label, _, text = line.rstrip("\n").partition("\t")
            if text.strip() and label in ("ham", "spam"):
                yield {"text": text, "label": label}


def polarity() -> Iterator[dict[str, Any]]:
    """SST-2's train and dev sentences (Socher et al. 2013)."""
    with lzma.open(data("classify", "sst2", "train.tsv.xz"), "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    lines += data("classify", "sst2", "dev.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines:
        text, _, label = line.rpartition("\t")
        if label.strip() in ("0", "1") and text.strip():
            yield {"text": text.strip(), "label": ("negative", "positive")[int(label)]}


def scifact() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(claims with the verdict of their evidence, abstracts) (Wadden et al. 2020)."""
    rows: dict[str, list[dict[str, str]]] = {}
    with zipfile.ZipFile(data("ir", "scifact.zip")) as archive:
        for name in archive.namelist():
            with archive.open(name) as file:
                rows[name] = list(csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline="")))
    corpus = []
    for one in rows["corpus_train.csv"]:
        sentences = _QUOTED.findall(one["abstract"])
        text = " ".join(" ".join(a or b for a, b in sentences).split())
        corpus.append({"id": one["doc_id"], "title": one["title"], "text": text or one["abstract"]})
    labels: dict[str, set[str]] = {}
    about: dict[str, str] = {}
    for one in rows["claims_train.csv"] + rows["claims_validation.csv"]:
        if one["evidence_label"] in _VERDICTS:
            labels.setdefault(one["claim"], set()).add(_VERDICTS[one["evidence_label"]])
            about.setdefault(one["claim"], one["evidence_doc_id"])
    claims = [
        {"text": claim, "label": found.pop(), "abstract": about[claim]}
        for claim, found in labels.items()
        if len(found) == 1
    ]
    return claims, corpus


def arc() -> Iterator[dict[str, Any]]:
    """Questions with their own choices (Clark et al. 2018)."""
    with tarfile.open(data("eval", "tasks.tar.xz")) as archive:
        for member in archive.getmembers():
            if "arc" not in member.name.lower() or not member.isfile():
                continue
            file = archive.extractfile(member)
            assert file is not None
            for line in file.read().decode("utf-8").splitlines():
                row = json.loads(line)
                if len(set(row["choices"])) == len(row["choices"]):
                    yield {"text": row["query"], "choices": row["choices"], "label": row["gold"]}


def fraud() -> Iterator[dict[str, Any]]:
    """Card payments with what was known when they were made (Le Borgne et al. 2022): every fraud and as many others,
    drawn at random, since of the real rate (1 in 120) nearly all questions would say nothing."""
    every = transactions()
    columns = history(every)
    rng = np.random.default_rng(0)
    frauds = np.flatnonzero(every.fraud)
    others = rng.choice(np.flatnonzero(~every.fraud), len(frauds), replace=False)
    for row in sorted([*frauds.tolist(), *others.tolist()]):
        told = {name: round(float(values[row]), 4) for name, values in columns.items()}
        label = "fraud" if every.fraud[row] else "legitimate"
        yield {**told, "card": int(every.customer[row]), "payment": int(every.id[row]), "label": label}


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python experiments/compare_tasks.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    csv.field_size_limit(1 << 24)
    claims, abstracts = scifact()
    made = {"sms": list(sms()), "polarity": list(polarity()), "scifact": claims, "arc": list(arc())}
    made["fraud"] = list(fraud())
    for name, rows in made.items():
        print(f"{write_jsonl(folder / f'{name}.jsonl', rows)}: {len(rows):,} rows")
    print(f"{write_jsonl(folder / 'scifact_documents.jsonl', abstracts)}: {len(abstracts):,} documents")


if __name__ == "__main__":
    main()
