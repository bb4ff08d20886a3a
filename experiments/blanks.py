"""Blanks: what filling blanks in plain text is worth when labels are few. SST-2 and SMS spam.

    python experiments/blanks.py [--steps N] [--seeds N] [--tune]

An encoder (ModernBERT's architecture, 4 layers, 128 wide) is trained to fill 30% blanks in about 12 MB of plain English
(film reviews without their labels, Wikipedia, stories, web pages, novels, SMS), then tuned on labelled texts. Beside
it: the same net tuned from random weights; a causal net of equal size and equal training (Qwen3's architecture), read
at its last token; logistic regression on words and pairs of words. SST-2 with all of its 6,920 labelled sentences and
with 500, scored on its dev set; SMS spam with 200 labelled messages, scored on a fifth that is held out. Plain text
that shares a run of eight words with a scored text is left out of training. `--tune` scores a tenth of the training
labels instead: learning rates and epochs were chosen there. What this does not know: what larger nets or more text
would reach.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    SEEDS,
    data,
    keep,
    over_seeds,
    paired_bootstrap,
    run_arms,
    scratch_home,
    share_interval,
    shown,
    write_jsonl,
)

NET: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4}
VOCABULARY, CONTEXT, BATCH = 8000, 128, 32
KINDS = ("masked, then tuned", "causal, then tuned", "from scratch")
TASKS = {"sst2": 0, "sst2-500": 500, "sms-200": 200}
"""Labelled texts of each task; 0: all."""
TUNING: dict[str, Any] = {
    "optimizer": "adamw",
    "epochs": {"sst2": 4.0, "sst2-500": 20.0, "sms-200": 40.0},
    "pretrained": 1e-3,
    "scratch": 1e-3,
}


def text_of(*parts: str) -> str:
    """A file, unpacked."""
    path = data(*parts)
    raw = path.read_bytes()
    return (lzma.decompress(raw) if path.suffix == ".xz" else raw).decode("utf-8", "replace")


def sst2(split: str) -> list[dict[str, str]]:
    """Sentences with their labels."""
    lines = text_of("classify", "sst2", "dev.tsv" if split == "dev" else "train.tsv.xz").strip().split("\n")
    return [{"text": text, "label": label} for text, label in (line.rsplit("\t", 1) for line in lines)]


def place(text: str) -> float:
    """A text's own number from 0 to 1, the same in every run."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def sms() -> list[dict[str, str]]:
    """Messages with their labels, each once."""
    rows: dict[str, str] = {}
    for line in text_of("classify", "sms_spam.tsv.xz").strip().split("\n"):
        label, text = line.split("\t", 1)
        rows.setdefault(text, label)
    return [{"text": text, "label": label} for text, label in rows.items()]


def task_rows(task: str, *, tune: bool) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(labelled rows to learn from, rows to score) of a task; with `tune` a tenth of the former are scored."""
    if task.startswith("sst2"):
        learn, score = sst2("train"), sst2("dev")
    else:
        rows = sms()
        learn = [row for row in rows if place(row["text"]) >= 0.2]
        score = [row for row in rows if place(row["text"]) < 0.2]
    if tune:
        inner = [place(row["text"] + "tune") < 0.1 for row in learn]
        score = [row for row, held in zip(learn, inner, strict=True) if held]
        learn = [row for row, held in zip(learn, inner, strict=True) if not held]
    return sorted(learn, key=lambda row: place(row["text"])), score


def few(learn: list[dict[str, str]], task: str, seed: int) -> list[dict[str, str]]:
    """The labelled texts of one seed: another sample for each."""
    count = TASKS[task]
    if not count:
        return learn
    chosen = np.random.default_rng([seed, 77]).permutation(len(learn))[:count]
    return [learn[i] for i in chosen]


def plain_texts() -> Iterator[str]:
    """Plain English without labels."""
    for line in text_of("classify", "rt-polarity.all.xz").split("\n"):
        if line[2:].strip():
            yield line[2:].strip()
    for row in [*sst2("train"), *sms()]:
        yield row["text"]
    for line in text_of("text", "c4_demo.jsonl.xz").splitlines():
        yield json.loads(line)["text"]
    for name in ("gatsby.txt.xz", "botchan_en.txt.xz", "wiki_demo.txt.xz", "wikitext2_train_part.txt.xz"):
        yield from pieces(text_of("text", name))
    yield from pieces(text_of("tinystories", "tinystories_lower_4MB.txt.xz"))


def pieces(text: str, size: int = 2000) -> Iterator[str]:
    """A long text in pieces of whole lines."""
    held: list[str] = []
    for line in text.splitlines():
        held.append(line)
        if sum(map(len, held)) > size:
            yield "\n".join(held).strip()
            held = []
    yield "\n".join(held).strip()


def runs_of_words(text: str, count: int = 8) -> set[str]:
    """Every run of `count` words, or the whole of a shorter text."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {" ".join(words[i : i + count]) for i in range(max(1, len(words) - count + 1))}


def unlabelled(home: Path) -> Path:
    """Plain texts that share no run of eight words with anything that is scored."""
    scored = sst2("dev") + [row for row in sms() if place(row["text"]) < 0.2]
    taboo = set().union(*(runs_of_words(row["text"]) for row in scored))
    kept = [text.lower() for text in plain_texts() if text and not runs_of_words(text) & taboo]
    return write_jsonl(home / "plain.jsonl", ({"text": text} for text in kept))


def made_corpus(home: str, path: Path, fields: tuple[str, ...] = (), validation: float = 0.0) -> Any:
    """A corpus of one JSONL file."""
    from bloomery.corpus import CurateConfig, curate

    config = CurateConfig(
        sources=(str(path),),
        metadata_fields=fields,
        validation_fraction=validation,
        test_fraction=0.0,
        decontaminate_words=0,
        cut_characters=0,
    )
    return curate(config=config, workspace=home)


def pretrained(home: str, corpus: str, tokenizer: str, objective: str, seed: int, steps: int) -> str:
    """A net that learnt from plain text; the id of its artifact."""
    from bloomery.core.workspace import Workspace
    from bloomery.training import TrainConfig, train
    from bloomery.training.building import NetConfig
    from bloomery.training.fit import FitConfig

    workspace = Workspace(home)
    config = TrainConfig(
        objective=objective,  # type: ignore[arg-type]
        context_length=CONTEXT,
        net=NetConfig(**NET),
        fit=FitConfig(
            steps=steps, batch_rows=BATCH, optimizer="muon", seed=seed, validations=1, precision="float32", device="cpu"
        ),
    )
    made = train(
        workspace.find(corpus, kind="corpus"),
        config=config,
        tokenizer=workspace.find(tokenizer, kind="tokenizer"),
        workspace=workspace,
    )
    figures = {k: round(v, 3) for k, v in made.metrics.items() if k.startswith("validation_") and isinstance(v, float)}
    print(f"{objective}, seed {seed}: {figures}, {made.metrics['tokens_per_second']:,.0f} tokens/s", flush=True)
    return made.id


def tuned(home: str, tokenizer: str, start: str, kind: str, task: str, seed: int, tune: bool) -> dict[str, Any]:
    """One net tuned on one task; which of the scored texts it gets right."""
    from bloomery.core.workspace import Workspace
    from bloomery.training import TrainConfig, train
    from bloomery.training.building import NetConfig
    from bloomery.training.fit import FitConfig

    learn, score = task_rows(task, tune=tune)
    rows = few(learn, task, seed)
    lower = [{**row, "text": row["text"].lower()} for row in rows]
    path = write_jsonl(Path(home) / f"{task}-{seed}-{kind[:6]}.jsonl", lower)
    rate = TUNING["scratch" if kind == "from scratch" else "pretrained"]
    config = TrainConfig(
        objective="classes",
        context_length=CONTEXT,
        net=NetConfig(**NET),
        fit=FitConfig(
            epochs=TUNING["epochs"][task],
            batch_rows=32,
            optimizer=TUNING["optimizer"],
            learning_rate=rate,
            weight_decay=0.05,
            max_norm=1.0,
            warmup_fraction=0.1,
            decay_fraction=0.9,
            seed=seed,
            validations=0,
            precision="float32",
            device="cpu",
        ),
    )
    workspace = Workspace(home)
    made = train(
        made_corpus(home, path, ("label",)),
        config=config,
        start=workspace.find(start) if start else None,
        tokenizer=None if start else workspace.find(tokenizer),
        workspace=workspace,
    )
    right = scored(made.path, [row["text"].lower() for row in score], [row["label"] for row in score])
    print(f"{task}, {kind}, seed {seed}: {right.mean():.4f}", flush=True)
    return {"kind": kind, "task": task, "seed": seed, "right": right.astype(int).tolist()}


def scored(folder: Path, texts: list[str], labels: list[str]) -> np.ndarray:
    """Which texts a tuned net labels right."""
    from bloomery.engine import Classifier, TextEncoder, load

    model = load(folder, device="cpu")
    assert isinstance(model, (Classifier, TextEncoder))
    said = [model.classify(text, top=1)[0].text for text in texts]
    return np.array([a == b for a, b in zip(said, labels, strict=True)])


def regression(task: str, seed: int, *, tune: bool) -> np.ndarray:
    """Logistic regression on words and pairs of words; its strength is chosen by five folds of the training labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    learn, score = task_rows(task, tune=tune)
    rows = few(learn, task, seed)
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]", sublinear_tf=True)
    net = make_pipeline(words, LogisticRegression(max_iter=2000))
    grid = GridSearchCV(net, {"logisticregression__C": [1, 3, 10, 30, 100]}, cv=5)
    grid.fit([row["text"].lower() for row in rows], [row["label"] for row in rows])
    said = grid.predict([row["text"].lower() for row in score])
    return np.array([a == row["label"] for a, row in zip(said, score, strict=True)])


def compare(found: list[dict[str, Any]], task: str, seeds: int, *, tune: bool) -> dict[str, Any]:
    """Accuracies, and differences to the net from scratch, text by text, the mean over seeds first."""
    right = {
        kind: np.array([one["right"] for one in found if one["kind"] == kind and one["task"] == task]) for kind in KINDS
    }
    right["logistic regression"] = np.array([regression(task, seed, tune=tune) for seed in range(seeds)]).astype(int)
    texts = right["from scratch"].shape[1]
    table = {}
    for kind, rows in right.items():
        table[kind] = {
            "accuracy": over_seeds(rows.mean(1).tolist()),
            "first_seed": share_interval(int(rows[0].sum()), texts),
            "over_scratch": paired_bootstrap(rows.mean(0) - right["from scratch"].mean(0)),
        }
        one = table[kind]
        print(
            f"{task:9s} {kind:20s} {shown(one['accuracy'], '.4f')}, over scratch {shown(one['over_scratch'], '+.4f')}"
        )
    return {"labels": TASKS[task] or len(task_rows(task, tune=tune)[0]), "scored_texts": texts, "table": table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--tune", action="store_true", help="score a tenth of the training labels, keep nothing")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    tasks = options.tasks.split(",")
    with scratch_home(options.home) as home:
        from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

        corpus = made_corpus(home, unlabelled(Path(home)), validation=0.03)
        tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=VOCABULARY, masks=True), workspace=home)
        tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
        seeds = range(options.seeds)
        arms = [
            (home, corpus.id, tokenizer.id, objective, seed, options.steps)
            for seed in seeds
            for objective in ("masked", "causal")
        ]
        starts = dict(zip([arm[3:5] for arm in arms], run_arms(pretrained, arms), strict=True))
        found = run_arms(
            tuned,
            [
                (home, tokenizer.id, starts.get((kind.split(",")[0], seed), ""), kind, task, seed, options.tune)
                for seed in seeds
                for task in tasks
                for kind in KINDS
            ],
        )
    result = {task: compare(found, task, options.seeds, tune=options.tune) for task in tasks}
    if not options.tune:
        size = {"steps": options.steps, "batch": BATCH, "context": CONTEXT, "vocabulary": VOCABULARY}
        keep("blanks", {"net": NET, **size, "seeds": options.seeds, "tasks": result})


if __name__ == "__main__":
    main()
