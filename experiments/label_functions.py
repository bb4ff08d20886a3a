"""Labelling functions: what a handful of rules is worth where nobody labels, beside votes and beside gold labels.

    python experiments/label_functions.py [--tasks sms,sst2] [--seeds N] [--steps N] [--jobs N] [--home FOLDER]

The rules of `experiments/labels/` label the training texts; the label model is fitted on those alone. Its labels and a
majority vote's are held against gold labels of texts that nothing was chosen by, on every text of which a rule says
something; then a small classifier learns from the rules' labels, from the votes' and from gold ones, and is scored on
all of the held-out texts. What this does not know: better rules, or how much the rules' author had seen.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from common import data, keep, over_seeds, paired_bootstrap, run_arms, scratch_home, shown, write_jsonl

from bloomery.core.artifact import Artifact
from bloomery.core.workspace import Workspace

LABELS = Path(__file__).resolve().parent / "labels"
FILES = {"sms": "sms_spam.toml", "sst2": "sst2.toml"}
NAMES = {"sms": "SMS spam", "sst2": "SST-2"}
MODELS = ("firing", "confusion", "accuracy")
TEACHERS = ("gold", "label model", "majority vote")
HELD_OUT_OF_SMS = 0.3


def rows_of(task: str) -> Iterator[dict[str, str]]:
    """Texts with gold labels and the split that they belong to: SST-2's own, three tenths of SMS held out."""
    if task == "sms":
        rng = random.Random(0)
        with lzma.open(data("classify", "sms_spam.tsv.xz"), "rt", encoding="utf-8") as stream:
            for line in stream:
                label, text = line.rstrip("\n").split("\t", 1)
                yield {"text": text, "gold": label, "split": "test" if rng.random() < HELD_OUT_OF_SMS else "train"}
        return
    for name, split in (("train.tsv.xz", "train"), ("dev.tsv", "test")):
        path = data("classify", "sst2", name)
        with lzma.open(path, "rt", encoding="utf-8") if name.endswith(".xz") else path.open(encoding="utf-8") as stream:
            for row in csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE):
                if len(row) == 2 and row[1] in ("0", "1"):
                    yield {"text": row[0], "gold": row[1], "split": split}


def corpus_of(task: str, workspace: Workspace) -> Artifact:
    """As curate makes it: without copies, and without texts that share words with held-out ones."""
    from bloomery.corpus import CurateConfig, curate

    path = write_jsonl(workspace.root / f"{task}.jsonl", rows_of(task))
    config = CurateConfig(split="source", metadata_fields=("gold", "split"), validation_fraction=0.0)
    return curate(path, config=config, workspace=workspace, workers=1)


def label(task: str, home: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What the rules are worth on held-out texts, and a corpus for each teacher: gold labels where it is scored."""
    from bloomery.corpus import read_documents
    from bloomery.corpus.annotation.label_functions import read_rules
    from bloomery.corpus.annotation.label_model import majority
    from bloomery.corpus.annotation.labelled import Label, LabelledConfig, label_corpus
    from bloomery.corpus.annotation.weak_labels import weak_labels

    workspace = Workspace(home)
    corpus, rules = corpus_of(task, workspace), read_rules(LABELS / FILES[task])
    found = {name: weak_labels(corpus, rules, name=name, gold_field="gold") for name in MODELS}  # type: ignore[arg-type]
    ours = found[MODELS[0]]
    names = np.array(rules.question.labels)
    documents = {split: list(read_documents(corpus, split)) for split in ours.votes}
    votes, tested = ours.votes["test"], documents["test"]
    said = (votes >= 0).any(1)
    gold = np.array([str(one.metadata["gold"]) for one in tested])[said]
    vote_of = lambda votes: names[(majority(votes, len(names)) + 1e-9 * ours.model.balance).argmax(1)]  # noqa: E731
    model_right = names[ours.model.probabilities(votes[said]).argmax(1)] == gold
    vote_right = vote_of(votes[said]) == gold
    spoken = {split: (one >= 0).any(1) for split, one in ours.votes.items()}
    voted = {
        one.id: Label(str(label))
        for split, listed in documents.items()
        for one, label, there in zip(listed, vote_of(ours.votes[split]), spoken[split], strict=True)
        if there
    }
    every = {one.id: Label(str(one.metadata["gold"])) for listed in documents.values() for one in listed}
    config = LabelledConfig(gold_field="gold", gold_splits=("validation", "test"))
    made = {
        teacher: label_corpus(corpus, labels, config=config, how={"teacher": teacher}, workspace=workspace)
        for teacher, labels in zip(TEACHERS, (every, ours.labels(), voted), strict=True)
    }
    peer = snorkel_labels(ours.votes["train"], votes[said], len(names))
    report = {
        "snorkel": None if peer is None else float((names[peer] == gold).mean()),
        "functions": len(rules.functions),
        "train": len(documents["train"]),
        "test": len(tested),
        "covered": int(said.sum()),
        "models": {name: one.report["against_gold"]["test"]["label_model"] for name, one in found.items()},
        "worse_than_chance": {name: one.report["worse_than_chance"] for name, one in found.items()},
        "majority_vote": float(vote_right.mean()),
        "most_frequent": ours.report["against_gold"]["test"]["most_frequent"],
        "over_votes": paired_bootstrap(model_right.astype(float) - vote_right.astype(float)),
    }
    return report, {teacher: one.id for teacher, one in made.items()}


def snorkel_labels(train: np.ndarray, votes: np.ndarray, num_labels: int) -> np.ndarray | None:
    """What the label model of snorkel 0.10 says, with its defaults, fitted on the same votes; None without it."""
    try:
        from snorkel.labeling.model import LabelModel
    except ImportError:
        return None
    model = LabelModel(cardinality=num_labels, verbose=False)
    model.fit(train.astype(int), n_epochs=500, seed=0, progress_bar=False)
    return model.predict_proba(votes.astype(int)).argmax(1)


def teach(home: str, task: str, teacher: str, corpus: str, seed: int, steps: int) -> dict[str, float]:
    """A mean of embeddings learns the labels of a corpus; its accuracy on the held-out texts, all of them, gold."""
    from bloomery.corpus import read_documents
    from bloomery.engine import load
    from bloomery.tokenizer import TokenizerConfig
    from bloomery.training import TrainConfig, train
    from bloomery.training.building import NetConfig
    from bloomery.training.fit import FitConfig

    workspace = Workspace(home)
    source = workspace.find(corpus)
    made = train(
        source,
        config=TrainConfig(
            objective="classes",
            target_field="label",
            net=NetConfig(family="mean", hidden_size=64),
            fit=FitConfig(steps=steps, batch_rows=64, seed=seed, device="cpu"),
        ),
        tokenizer_config=TokenizerConfig(vocab_size=2000),
        workspace=workspace,
    )
    model = load(made, device="cpu")
    documents = list(read_documents(source, "test"))
    said = [model.classify(document.text, top=1)[0].text for document in documents]
    right = [label == str(document.metadata["gold"]) for label, document in zip(said, documents, strict=True)]
    return {"accuracy": float(np.mean(right)), "texts": len(right)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="sms,sst2")
    parser.add_argument("--seeds", type=int, default=3, help="0: no classifier, nothing is kept")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--home", default="", help="keep the work of training here, and go on with it")
    args = parser.parse_args()
    tasks: dict[str, Any] = {}
    chosen = args.tasks.split(",")
    with scratch_home(args.home) as home:
        made = {task: label(task, home) for task in chosen}
        for task in chosen:
            _say(task, made[task][0])
        arms = [
            (home, task, teacher, made[task][1][teacher], seed, args.steps)
            for task in chosen
            for seed in range(args.seeds)
            for teacher in TEACHERS
        ]
        scores = run_arms(teach, arms, jobs=args.jobs, settings=args.steps)
        for task in chosen:
            report = made[task][0]
            by_teacher = {
                teacher: [s["accuracy"] for a, s in zip(arms, scores, strict=True) if a[1:3] == (task, teacher)]
                for teacher in (TEACHERS if args.seeds else ())
            }
            report["taught"] = {teacher: over_seeds(values) for teacher, values in by_teacher.items()}
            for teacher, value in report["taught"].items():
                print(f"{task}: a classifier taught by {teacher}: {shown(value, '.4f')}", flush=True)
            tasks[NAMES[task]] = report
    if args.seeds:
        keep("label_functions", {"tasks": tasks, "seeds": args.seeds, "steps": args.steps})


def _say(task: str, report: Mapping[str, Any]) -> None:
    accuracies = ", ".join(f"{name} {value:.4f}" for name, value in report["models"].items())
    print(
        f"{task}: {report['functions']} functions, {report['covered']:,} of {report['test']:,} held-out texts covered"
    )
    peer = "not installed" if report["snorkel"] is None else f"{report['snorkel']:.4f}"
    print(f"{task}: snorkel's label model: {peer}")
    print(f"{task}: label model: {accuracies}; majority vote {report['majority_vote']:.4f}")
    print(
        f"{task}: most frequent {report['most_frequent']:.4f}; over votes {shown(report['over_votes'], '+.4f')}",
        flush=True,
    )


if __name__ == "__main__":
    main()
