"""Blanks: what filling blanks in plain text is worth, by the number of labels. SST-2 and SMS spam.

    python experiments/blanks.py [--tasks NAMES] [--seeds N] [--tune]

An encoder (ModernBERT's architecture, 2 layers, 64 wide) is trained to fill 30% blanks in about 4 MB of plain English
(film reviews without their labels, web pages, novels, SMS), then tuned on labelled texts. Beside it: the same net tuned
from random weights; a causal net of equal size and about as much computation (Qwen3's architecture), read at its last
token; logistic regression on words and pairs of words. SST-2 with all of its 6,920 labelled sentences, 2,000 and 500,
scored on its dev set; SMS spam with 200 labelled messages, scored on a fifth that is held out. Every seed learns from
plain text anew and is tuned on other labels. Plain text that shares a run of eight words with a scored text is left
out. `--tune` scores a fifth of the training labels instead, whose texts are left out of the plain text too: optimiser
and learning rate were chosen there, from one grid for all nets. What this does not know: what larger nets or more text
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

NET: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
WINDOW = 8
"""Tokens that the encoder's first layer sees: with all of them in view it stays far longer at words' frequencies."""
VOCABULARY, CONTEXT, BATCH = 6000, 64, 16
STEPS = {"masked": 5000, "causal": 2000}
"""About the same computation: a causal net is scored at every token, a masked one at 30% of them."""
INNER = 0.2
"""Share of the training labels that settings were chosen on."""
KINDS = ("masked, then tuned", "causal, then tuned", "from scratch")
TASKS = {"sst2": 0, "sst2-2000": 2000, "sst2-500": 500, "sms-200": 200}
"""Labelled texts of each task; 0: all."""
EPOCHS = {"sst2": 3.0, "sst2-2000": 6.0, "sst2-500": 12.0, "sms-200": 20.0}
"""Passes over the labels."""
GRID: tuple[tuple[Any, float], ...] = (("adamw", 1e-3), ("adamw", 3e-3), ("muon", 3e-3), ("muon", 1e-2))
"""Optimisers and learning rates that are tried on labels; Muon's tables of embeddings have 3e-3."""
CHOSEN = 3
"""Which was best for each net on SST-2 with all labels of the inner split, one seed; taken for every task."""


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


def inner(row: dict[str, str]) -> bool:
    """Whether a training row is one that settings are chosen on."""
    return place(row["text"] + "tune") < INNER


def task_rows(task: str, *, tune: bool) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """(labelled rows to learn from, rows to score) of a task; with `tune` a fifth of the former are scored."""
    if task.startswith("sst2"):
        learn, score = sst2("train"), sst2("dev")
    else:
        rows = sms()
        learn = [row for row in rows if place(row["text"]) >= 0.2]
        score = [row for row in rows if place(row["text"]) < 0.2]
    if tune:
        score = [row for row in learn if inner(row)]
        learn = [row for row in learn if not inner(row)]
    return sorted(learn, key=lambda row: place(row["text"])), score


def few(learn: list[dict[str, str]], task: str, seed: int) -> list[dict[str, str]]:
    """The labelled texts of one seed: another sample for each."""
    count = TASKS[task]
    if not count:
        return learn
    chosen = np.random.default_rng([seed, 77]).permutation(len(learn))[:count]
    return [learn[i] for i in chosen]


def plain_texts() -> Iterator[str]:
    """Plain English without labels, in pieces that fit a row: what is longer than a row is cut off in packing."""
    for line in text_of("classify", "rt-polarity.all.xz").split("\n"):
        yield line[2:].strip()
    for row in [*sst2("train"), *sms()]:
        yield row["text"]
    for parts in (("text", "c4_demo.jsonl.xz"), ("web", "dclm_quality_majority.jsonl.xz")):
        for line in text_of(*parts).splitlines():
            yield from pieces(json.loads(line)["text"])
    for name in ("gatsby.txt.xz", "botchan_en.txt.xz"):
        yield from pieces(re.sub(r"(?<!\n)\n(?!\n)", " ", text_of("text", name)))


def pieces(text: str, size: int = 220) -> Iterator[str]:
    """A long text in pieces of whole sentences, of about `size` characters."""
    held = ""
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", text):
        if held and len(held) + len(sentence) > size:
            yield held
            held = ""
        held = f"{held} {sentence}".strip()
    yield held


def runs_of_words(text: str, count: int = 8) -> set[str]:
    """Every run of `count` words, or the whole of a shorter text."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    return {" ".join(words[i : i + count]) for i in range(max(1, len(words) - count + 1))}


def unlabelled(home: Path) -> Path:
    """Plain texts, each once, that share no run of eight words with anything that is scored or chosen on."""
    scored = [*sst2("dev"), *filter(inner, sst2("train")), *(row for row in sms() if place(row["text"]) < 0.2)]
    taboo = set().union(*(runs_of_words(row["text"]) for row in scored))
    kept: dict[str, str] = {}
    for text in (text.lower() for text in plain_texts()):
        if len(text) > 20 and not runs_of_words(text) & taboo:
            kept.setdefault(re.sub(r"\W", "", text), text)
    return write_jsonl(home / "plain.jsonl", ({"text": text} for text in kept.values()))


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


def pretrained(home: str, corpus: str, tokenizer: str, objective: str, seed: int, steps: int) -> list[Any]:
    """A net that learnt from plain text: the id of its artifact, and figures."""
    from bloomery.core.workspace import Workspace
    from bloomery.training import TrainConfig, train
    from bloomery.training.building import NetConfig
    from bloomery.training.fit import FitConfig

    workspace = Workspace(home)
    config = TrainConfig(
        objective=objective,  # type: ignore[arg-type]
        context_length=CONTEXT,
        net=NetConfig(**NET, local_attention=WINDOW if objective == "masked" else 0),
        fit=FitConfig(
            steps=steps,
            batch_rows=BATCH,
            optimizer="muon",
            learning_rate=0.015,
            embedding_learning_rate=0.005,
            seed=seed,
            validations=4,
            precision="float32",
            device="cpu",
        ),
    )
    made = train(
        workspace.find(corpus, kind="corpus"),
        config=config,
        tokenizer=workspace.find(tokenizer, kind="tokenizer"),
        workspace=workspace,
    )
    kept = ("parameters", "tokens_read", "validation_nats_per_token")
    figures = {"steps": steps, **{key: made.metrics[key] for key in kept}}
    print(f"{objective}, seed {seed}: {figures}, {made.metrics['tokens_per_second']:,.0f} tokens/s", flush=True)
    return [made.id, figures]


def tuned(
    home: str, tokenizer: str, start: str, kind: str, task: str, seed: int, tune: bool, setting: int
) -> dict[str, Any]:
    """One net tuned on one task; which of the scored texts it gets right."""
    from bloomery.core.workspace import Workspace
    from bloomery.training import TrainConfig, train
    from bloomery.training.building import NetConfig
    from bloomery.training.fit import FitConfig

    learn, score = task_rows(task, tune=tune)
    rows = few(learn, task, seed)
    lower = [{**row, "text": row["text"].lower()} for row in rows]
    path = write_jsonl(Path(home) / f"{task}-{seed}-{kind[:6]}.jsonl", lower)
    optimizer, rate = GRID[setting]
    config = TrainConfig(
        objective="classes",
        context_length=CONTEXT,
        net=NetConfig(**NET, local_attention=WINDOW),
        fit=FitConfig(
            epochs=EPOCHS[task],
            learning_rate=rate,
            embedding_learning_rate=3e-3 if optimizer == "muon" else 0.0,
            batch_rows=32,
            optimizer=optimizer,
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
    print(f"{task}, {kind}, {optimizer}, rate {rate:g}, seed {seed}: {right.mean():.4f}", flush=True)
    return {"kind": kind, "task": task, "seed": seed, "setting": setting, "right": right.astype(int).tolist()}


def scored(folder: Path, texts: list[str], labels: list[str]) -> np.ndarray:
    """Which texts a tuned net labels right."""
    from bloomery.engine import Classifier, TextEncoder, load

    model = load(folder, device="cpu")
    assert isinstance(model, (Classifier, TextEncoder))
    said = [model.classify(text, top=1)[0].text for text in texts]
    return np.array([a == b for a, b in zip(said, labels, strict=True)])


def regression(task: str, seed: int) -> np.ndarray:
    """Logistic regression on words and pairs of words; its strength is chosen by five folds of the training labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    learn, score = task_rows(task, tune=False)
    rows = few(learn, task, seed)
    words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b|[^\w\s]", sublinear_tf=True)
    net = make_pipeline(words, LogisticRegression(max_iter=2000))
    grid = GridSearchCV(net, {"logisticregression__C": [1, 3, 10, 30, 100]}, cv=5)
    grid.fit([row["text"].lower() for row in rows], [row["label"] for row in rows])
    said = grid.predict([row["text"].lower() for row in score])
    return np.array([a == row["label"] for a, row in zip(said, score, strict=True)])


def regressions(task: str, seeds: int) -> list[np.ndarray]:
    """Of every seed; where there is nothing to draw, one for all."""
    if not TASKS[task]:
        return [regression(task, 0)] * seeds
    return [regression(task, seed) for seed in range(seeds)]


def compare(found: list[dict[str, Any]], task: str, seeds: int) -> dict[str, Any]:
    """Accuracies, and differences to the net from scratch, text by text, the mean over seeds first."""
    here = [one for one in found if one["task"] == task]
    right = {
        kind: np.array([one["right"] for one in here if one["kind"] == kind])
        for kind in KINDS
        if any(one["kind"] == kind for one in here)
    }
    right["logistic regression"] = np.array(regressions(task, seeds)).astype(int)
    texts = right["from scratch"].shape[1]
    table = {}
    for kind, rows in right.items():
        table[kind] = {
            "accuracy": over_seeds(rows.mean(1).tolist()),
            "first_seed": share_interval(int(rows[0].sum()), texts),
            "over_scratch": paired_bootstrap(rows.mean(0) - right["from scratch"].mean(0)),
            "over_scratch_seeds": over_seeds((rows - right["from scratch"]).mean(1).tolist()),
        }
        one = table[kind]
        print(
            f"{task:9s} {kind:20s} {shown(one['accuracy'], '.4f')}, over scratch {shown(one['over_scratch'], '+.4f')}"
        )
    return {"labels": TASKS[task] or len(task_rows(task, tune=False)[0]), "scored_texts": texts, "table": table}


def show_grid(found: list[dict[str, Any]]) -> None:
    """The accuracy of each setting, on the training labels that were held out."""
    for task, kind in sorted({(one["task"], one["kind"]) for one in found}):
        for number, (optimizer, rate) in enumerate(GRID):
            right = [
                one["right"] for one in found if (one["task"], one["kind"], one["setting"]) == (task, kind, number)
            ]
            print(f"{task:10s} {kind:20s} {number}: {optimizer}, rate {rate:g}: {np.mean(right):.4f}")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--kinds", default=",".join(one.split(",")[0] for one in KINDS))
    parser.add_argument("--setting", type=int, default=CHOSEN, help="of the grid; another one is kept by its optimiser")
    parser.add_argument("--tune", action="store_true", help="score the grid on training labels, keep nothing")
    parser.add_argument("--jobs", type=int, default=2, help="nets trained at a time")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    return parser.parse_args()


def main() -> None:
    asked = options()
    tasks, seeds = asked.tasks.split(","), range(asked.seeds)
    kinds = tuple(kind for kind in KINDS if kind.split(",")[0] in asked.kinds.split(","))
    with scratch_home(asked.home) as home:
        from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

        corpus = made_corpus(home, unlabelled(Path(home)), validation=0.02)
        tokenizer = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=VOCABULARY, masks=True), workspace=home)
        tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
        learnt = [one for one in STEPS if any(kind.startswith(one) for kind in kinds)]
        arms = [(home, corpus.id, tokenizer.id, one, seed, STEPS[one]) for one in learnt for seed in seeds]
        sizes = [NET, WINDOW, CONTEXT, BATCH]
        made = run_arms(pretrained, arms, jobs=asked.jobs, settings=sizes) if arms else []
        starts = {(one, seed): made[place][0] for place, (*_, one, seed, _) in enumerate(arms)}
        found = run_arms(
            tuned,
            [
                (home, tokenizer.id, starts.get((kind.split(",")[0], seed), ""), kind, task, seed, asked.tune, setting)
                for seed in seeds
                for task in tasks
                for kind in kinds
                for setting in (range(len(GRID)) if asked.tune else [asked.setting])
            ],
            jobs=asked.jobs,
            settings=[*sizes, EPOCHS, GRID],
        )
    if asked.tune:
        show_grid(found)
        return
    result = {task: compare(found, task, asked.seeds) for task in tasks}
    size = {
        "plain": {one: [made[place][1] for place, arm in enumerate(arms) if arm[3] == one] for one in learnt},
        "batch": BATCH,
        "context": CONTEXT,
        "vocabulary": VOCABULARY,
    }
    sizes_kept = {"net": NET, "window": WINDOW, **size, "seeds": asked.seeds}
    name = "blanks" if asked.setting == CHOSEN else f"blanks_{GRID[asked.setting][0]}"
    keep(name, {**sizes_kept, "chosen": GRID[asked.setting], "grid": GRID, "epochs": EPOCHS, "tasks": result})


if __name__ == "__main__":
    main()
