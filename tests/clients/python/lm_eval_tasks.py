"""lm-eval's own tasks on local files: python lm_eval_tasks.py FOLDER; JSON on stdin and stdout.

`rows` by task are written as files and read by lm-eval's unmodified task of that name, but for where its data lie.
`backends` are models that are asked; without one only what would be asked is told, with `few_shot` examples before it.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import lm_eval
from lm_eval.tasks import TaskManager

logging.disable(logging.WARNING)
folder = Path(sys.argv[1])
asked = json.load(sys.stdin)
stock = Path(lm_eval.__file__).parent / "tasks"
for name, task in asked["tasks"].items():
    files = {}
    for split, rows in task["rows"].items():
        path = folder / f"{name}-{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[split] = str(path)
    splits = {"test_split": "test", "validation_split": None, "training_split": "train" if "train" in files else None}
    settings = {
        "include": str(stock / task["file"]),
        "task": f"local_{name}",
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files},
        "fewshot_split": "train" if "train" in files else None,
        **splits,
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
    (folder / f"local_{name}.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
manager = TaskManager(include_path=str(folder), include_defaults=False)
names = [f"local_{name}" for name in asked["tasks"]]


def plain(value: object) -> object:
    return value.tolist() if hasattr(value, "tolist") else value


if asked["backends"]:
    told = {}
    for backend, arguments in asked["backends"].items():
        kind = "hf" if "pretrained" in arguments else "local-completions"
        found = lm_eval.simple_evaluate(
            model=kind,
            model_args=arguments,
            tasks=names,
            task_manager=manager,
            num_fewshot=0,
            log_samples=True,
            bootstrap_iters=0,
            verbosity="ERROR",
        )
        told[backend] = {
            name.removeprefix("local_"): {
                "samples": [one["filtered_resps"] for one in sorted(samples, key=lambda one: one["doc_id"])],
                "metrics": {
                    key.partition(",")[0]: value
                    for key, value in found["results"][name].items()
                    if isinstance(value, float) and "stderr" not in key
                },
            }
            for name, samples in found["samples"].items()
        }
    print(json.dumps(told, default=plain))
else:
    told = {}
    for name, task in lm_eval.tasks.get_task_dict(names, manager).items():
        one = told[name.removeprefix("local_")] = []
        shots = asked["few_shot"]
        task.set_config("num_fewshot", shots)
        task.set_fewshot_seed(0)
        for doc in task.eval_docs:
            context = task.fewshot_context(doc, num_fewshot=shots)
            requests = task.construct_requests(doc, context)
            listed = requests if isinstance(requests, list) else [requests]
            target = task.doc_to_target(doc)
            one.append({"arguments": [plain(each.arguments[:2]) for each in listed], "target": plain(target)})
    print(json.dumps(told, default=plain))
