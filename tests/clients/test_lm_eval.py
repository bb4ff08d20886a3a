"""lm-eval, unmodified, through our server, beside our own runner and its own transformers backend, item by item."""

from __future__ import annotations

import json
import lzma
import os
import runpy
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bloomery.core.artifact import Artifact
from bloomery.evaluate import EvaluateConfig, evaluate, read_evaluation, read_records
from bloomery.evaluate.tasks import find_task, questions
from bloomery.evaluate.tasks.rows import Row

HERE = Path(__file__).parent
run = runpy.run_path(str(HERE / "test_python.py"))["run"]
DATA = Path(os.environ.get("BLOOMERY_DATA", HERE.parents[1] / ".." / "shared" / "data")) / "eval"
ITEMS = 25
STOCK = {
    "arc_easy": "arc/arc_easy.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "blimp": "blimp/adjunct_island.yaml",
}


def members(archive: str, name: str) -> list[dict[str, Any]]:
    with tarfile.open(DATA / archive) as tar:
        file = tar.extractfile(name)
        assert file is not None
        return [json.loads(line) for line in file.read().decode().splitlines()]


def as_published(items: int) -> dict[str, list[dict[str, Any]]]:
    """Rows as the Hugging Face hub has them, which lm-eval's tasks read."""
    arc = [
        {
            "question": one["query"].removeprefix("Question: "),
            "choices": {"text": one["choices"], "label": list("ABCDE"[: len(one["choices"])])},
            "answerKey": "ABCDE"[one["gold"]],
        }
        for one in members("tasks.tar.xz", "evs/arc_easy.jsonl")[:items]
    ]
    lambada = members("tasks.tar.xz", "evs/lambada_openai_small.jsonl")[:items]
    return {
        "arc_easy": arc,
        "lambada": [{"text": f"{one['context']} {one['continuation']}"} for one in lambada],
        "blimp": members("blimp_half.tar.xz", "adjunct_island.jsonl")[:items],
    }


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the server's process: sums over threads are in another order, and differ in their last bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, Any]]]]:
    if not DATA.is_dir():
        pytest.fail(f"no {DATA}") if os.environ.get("CI") == "true" else pytest.skip(f"no {DATA}")
    rows, folder = as_published(ITEMS), tmp_path_factory.mktemp("data")
    (folder / "blimp").mkdir()
    places = {"arc_easy": "arc_easy.jsonl", "lambada": "lambada_openai.jsonl.xz", "blimp": "blimp/adjunct_island.jsonl"}
    for name, place in places.items():
        text = "".join(json.dumps(row) + "\n" for row in rows[name]).encode()
        (folder / place).write_bytes(lzma.compress(text) if place.endswith(".xz") else text)
    return folder, rows


def nats(artifact: Artifact, task: str) -> list[list[float]]:
    return [list(record.nats) for record in read_records(artifact, task)]


def test_log_probabilities_of_every_item(
    server: str, tiny_folder: Path, published: tuple[Path, dict], one_thread: None, tmp_path: Path
):
    data, rows = published
    served = f"base_url={server}/v1/completions,model=tiny,max_length=1024,batch_size=3,num_concurrent=2"
    asked = {
        "tasks": {name: {"file": STOCK[name], "rows": {"test": rows[name]}} for name in STOCK},
        "backends": {
            "server": f"{served},tokenizer={tiny_folder},tokenizer_backend=huggingface,add_bos_token=True",
            "bare": served,
            "hf": f"pretrained={tiny_folder},dtype=float32,batch_size=4,device=cpu,max_length=1024",
        },
    }
    told = run("lm_eval", "lm_eval_tasks.py", str(tmp_path), stdin=asked)
    config = EvaluateConfig(few_shot=0)
    how: dict[str, Any] = {"config": config, "data": data, "workspace": tmp_path / "home"}
    ours = evaluate(str(tiny_folder), list(STOCK), **how)
    remote = evaluate(f"{server}/v1#tiny", list(STOCK), **how)
    # With the server's own tokenizer lm-eval never begins a context with BOS, whatever the tokenizer does.
    bare = evaluate(str(tiny_folder), list(STOCK), **{**how, "config": EvaluateConfig(few_shot=0, bos=False)})
    for name in STOCK:
        found, over_http = nats(ours, name), nats(remote, name)
        without = [[pair[0] for pair in item] for item in told["bare"][name]["samples"]]
        assert nats(bare, name) == [pytest.approx(one, abs=1e-6) for one in without]
        harness = [[pair[0] for pair in item] for item in told["server"][name]["samples"]]
        reference = [[pair[0] for pair in item] for item in told["hf"][name]["samples"]]
        assert len(found) == len(rows[name]) == len(harness)
        assert over_http == found  # the same sums, over JSON
        for mine, through, its in zip(found, harness, reference, strict=True):
            assert mine == pytest.approx(through, abs=1e-6)
            # Sums of up to some hundred float32 log-probabilities, in batches with padding.
            assert mine == pytest.approx(its, abs=1e-4)
    metrics = {one["task"]: one["metrics"] for one in read_evaluation(ours)["tasks"]}
    names = {"acc": "accuracy", "acc_norm": "accuracy_by_characters", "perplexity": "perplexity"}
    for name in STOCK:
        for key, value in told["hf"][name]["metrics"].items():
            assert metrics[name][names[key]]["value"] == pytest.approx(value, rel=1e-4), (name, key)


ROWS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "arc_challenge": (
        "arc/arc_challenge.yaml",
        [
            {"question": "Why?", "choices": {"text": ["so", "no", "oh"], "label": ["1", "2", "3"]}, "answerKey": "2"},
            {"question": "Wer  ist es?", "choices": {"text": ["ich", "du"], "label": ["A", "B"]}, "answerKey": "A"},
        ],
    ),
    "hellaswag": (
        "hellaswag/hellaswag.yaml",
        [
            {
                "activity_label": "Smelting [a kind]",
                "ctx_a": "[header] How to smelt [title] Take ore.",
                "ctx_b": "the man  takes it",
                "endings": ["and [step] smelts. ", " and  goes [title] home", "sleeps", "eats"],
                "label": "1",
            },
            {"activity_label": "Ore", "ctx_a": "A", "ctx_b": "", "endings": ["b", "c", "d", "e"], "label": "3"},
        ],
    ),
    "piqa": (
        "piqa/piqa.yaml",
        [{"goal": "smelt", "sol1": "heat it", "sol2": "cool it", "label": n} for n in (0, 1)],
    ),
    "copa": (
        "super_glue/copa/default.yaml",
        [
            {
                "premise": f"The ore melted{n}. ",
                "choice1": "It was hot.",
                "choice2": "The man slept.",
                "question": kind,
                "label": n,
            }
            for n, kind in enumerate(("cause", "effect"))
        ],
    ),
    "winogrande": (
        "winogrande/default.yaml",
        [
            {"sentence": f"Ann{n} gave Bea ore because _ had _ much.", "option1": "Ann", "option2": "Bea", "answer": a}
            for n, a in enumerate("12")
        ],
    ),
    "boolq": (
        "super_glue/boolq/default.yaml",
        [{"passage": f"Iron is hard. {n}", "question": "is iron hard", "label": n} for n in (0, 1)],
    ),
    "mmlu": (
        "mmlu/default/mmlu_high_school_biology.yaml",
        [
            {"question": f" What{n}? ", "subject": "high_school_biology", "choices": ["a", "b", "c", "d"], "answer": n}
            for n in (2, 0)
        ],
    ),
    "gsm8k": ("gsm8k/gsm8k.yaml", [{"question": f"1 + {n}?", "answer": f"so\n#### {n + 1}"} for n in (1, 2)]),
    "triviaqa": (
        "triviaqa/default.yaml",
        [{"question": f"Who {n}", "answer": {"aliases": ["A man", "Man"], "value": "Man"}} for n in (1, 2)],
    ),
    "truthfulqa_mc1": (
        "truthfulqa/truthfulqa_mc1.yaml",
        [{"question": f"Is it {n}?", "mc1_targets": {"choices": ["No.", "Yes."], "labels": [1, 0]}} for n in (1, 2)],
    ),
    "truthfulqa_mc2": (
        "truthfulqa/truthfulqa_mc2.yaml",
        [
            {"question": f"Is it {n}?", "mc2_targets": {"choices": ["No.", "Nope.", "Yes."], "labels": [1, 1, 0]}}
            for n in (1, 2)
        ],
    ),
    "ifeval": (
        "ifeval/ifeval.yaml",
        [{"key": n, "prompt": "Write in lower case.", "instruction_id_list": [], "kwargs": []} for n in (1, 2)],
    ),
}
"""Rows of our own in the layouts of the hub: the first is an example, the second is asked."""


@pytest.mark.parametrize("few_shot", [0, 1])
def test_prompts_are_those_of_lm_eval(few_shot: int, tmp_path: Path):
    tasks = {name: {"file": file, "rows": {"train": rows[:1], "test": rows[1:]}} for name, (file, rows) in ROWS.items()}
    if few_shot:  # with none, or a prompt of their own
        tasks = {name: task for name, task in tasks.items() if not name.startswith(("truthful", "ifeval"))}
    told = run(
        "lm_eval", "lm_eval_tasks.py", str(tmp_path), stdin={"tasks": tasks, "backends": {}, "few_shot": few_shot}
    )
    for name, task in tasks.items():
        train, test = ([Row(row, f"{part}:1", part) for row in task["rows"][part]] for part in ("train", "test"))
        found = list(questions(find_task(name), test, examples=train, few_shot=few_shot))
        for question, its in zip(found, told[name], strict=True):
            if question.pairs:
                assert [list(pair) for pair in question.pairs] == its["arguments"], name
            else:
                assert question.prompt == its["arguments"][0][0], name
