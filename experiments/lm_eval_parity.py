"""How far apart log-probabilities of the same items are: our runner, lm-eval through our server, lm-eval's own backend.

    python experiments/lm_eval_parity.py MODEL [--items N] [--threads N]

MODEL is a Hugging Face folder. Items of ARC-easy, LAMBADA and BLiMP are read from $BLOOMERY_DATA (or ../shared/data),
written as the hub has them, and given to lm-eval's unmodified tasks; prints, for each task, the largest difference in
nats over all items and choices, and whether accuracies are the same. Needs lm-eval and transformers.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CLIENTS = HERE.parent / "tests" / "clients"
SERVE = (
    "import sys; from bloomery.server import serve; serve(sys.argv[2], port=int(sys.argv[1]), workspace=sys.argv[3])"
)
METRICS = {"acc": "accuracy", "acc_norm": "accuracy_by_characters", "perplexity": "perplexity"}


def served(model: Path, home: Path, threads: int) -> tuple[subprocess.Popen[bytes], str]:
    """A server of the model, and its address, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "BLOOMERY_API_KEY": ""}
    process = subprocess.Popen([sys.executable, "-c", SERVE, str(port), str(model), str(home)], env=environment)
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return process, url
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not come up")


def harness(model: Path, url: str, rows: dict[str, list[Any]], stock: dict[str, str], length: int) -> Any:
    """What lm-eval says through the server and by itself."""
    served_by = f"base_url={url}/v1/completions,model={model.name},max_length={length},batch_size=8,num_concurrent=2"
    asked = {
        "tasks": {name: {"file": stock[name], "rows": {"test": rows[name]}} for name in rows},
        "backends": {
            "server": f"{served_by},tokenizer={model},tokenizer_backend=huggingface,add_bos_token=True",
            "hf": f"pretrained={model},dtype=float32,batch_size=8,device=cpu,max_length={length}",
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        script = str(CLIENTS / "python" / "lm_eval_tasks.py")
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_DATASETS_CACHE": folder}
        done = subprocess.run(
            [sys.executable, script, folder],
            input=json.dumps(asked).encode(),
            stdout=subprocess.PIPE,
            env=os.environ | offline,
            check=True,
        )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    import torch

    from bloomery.evaluate import EvaluateConfig, evaluate, read_evaluation, read_records

    torch.set_num_threads(arguments.threads)
    shown = runpy.run_path(str(CLIENTS / "test_lm_eval.py"))
    rows = shown["as_published"](arguments.items)
    model = arguments.model.resolve()
    length = json.loads((model / "config.json").read_text())["max_position_embeddings"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, place in (
            ("arc_easy", "arc_easy.jsonl"),
            ("lambada", "lambada_openai.jsonl"),
            ("blimp", "blimp/a.jsonl"),
        ):
            (folder / place).parent.mkdir(exist_ok=True)
            (folder / place).write_text("".join(json.dumps(row) + "\n" for row in rows[name]), encoding="utf-8")
        process, url = served(model, folder / "server", arguments.threads)
        try:
            told = harness(model, url, rows, shown["STOCK"], length)
        finally:
            process.terminate()
            process.wait()
        began = time.perf_counter()
        made = evaluate(
            str(model), list(rows), config=EvaluateConfig(few_shot=0), data=folder, workspace=folder / "home"
        )
        seconds = time.perf_counter() - began
        results = {one["task"]: one for one in read_evaluation(made)["tasks"]}
        print(f"{model.name}, {arguments.threads} threads, our runner {seconds:.1f} s in all; differences in nats")
        for name in rows:
            records = read_records(made, name)
            print(f"{name}: {len(records)} items, {sum(len(one.nats) for one in records)} texts")
            for backend, found in told.items():
                pairs = [
                    (mine, its[0])
                    for record, sample in zip(records, found[name]["samples"], strict=True)
                    for mine, its in zip(record.nats, sample, strict=True)
                ]
                metrics = found[name]["metrics"]
                ours = {key: results[name]["metrics"][METRICS[key]]["value"] for key in metrics}
                same = all(abs(ours[key] - value) <= 1e-4 * max(1.0, abs(value)) for key, value in metrics.items())
                largest = max(abs(a - b) for a, b in pairs)
                print(f"  {backend:<7} largest {largest:.2e}, metrics {'equal' if same else f'{ours} {metrics}'}")


if __name__ == "__main__":
    main()
