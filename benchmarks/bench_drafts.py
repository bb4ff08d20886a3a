"""Guessed tokens: decode with drafts from the text itself against plain decode, in turn; the texts must be equal.

    python benchmarks/bench_drafts.py [--sizes 15M,135M] [--weights plain,int8] [--pairs 5] [--new 256] [--keep]
    python benchmarks/bench_drafts.py --model MODEL --heads HEADS --text FILE [--home HOME] [--weights plain,int8] ...

Random weights of the sizes of bench_engine. For text that repeats, what attention and the feed-forward nets add is
made zero (it is computed all the same) and the head such that fifty tokens follow one another in a circle, as a table
or a quoted passage would; free text is drawn at temperature 1, and hardly any of it comes again. Prints the ratio of
tokens a second with drafts="ngram" to those without (median, lowest and highest) and the share of guesses that were
right. Exit code 1 if a text differs, if the ratio is under 2.5 where the text repeats, or under .97 where it does not.
--keep puts them into docs/results.md, too.

With a trained MODEL and extra HEADS of it (`bloomery adapt MODEL TEXT --method heads`) it goes on with passages of a
text that neither has read, greedily and at temperature 1, with the heads' guesses against without; there is no bar.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import runpy
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

BARS = {"repeats": 2.5, "free": 0.97}
ASKED: dict[str, dict[str, Any]] = {"repeats": {"temperature": 0.0}, "free": {"temperature": 1.0, "seed": 7}}
FIRST, CIRCLE = 100, 50
PROMPT = 32


def make_circle(home: Path, sizes: dict[str, dict[str, int]], size: str, made: Path) -> Path:
    """A folder like `made`, whose greedy text goes round the tokens FIRST to FIRST + CIRCLE."""
    from bloomery.models import Decoder, ModelConfig, save_pretrained

    folder = home / f"{size}-circle"
    shutil.copytree(made, folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    model = Decoder(
        ModelConfig(
            model_type="llama",
            max_position_embeddings=2048,
            tie_word_embeddings=False,
            eos_token_id=(2,),
            **sizes[size],  # type: ignore[arg-type]
        )
    )
    weights = dict(model.named_parameters())
    (head,) = (one for name, one in weights.items() if "lm_head" in name)
    (words,) = (one for name, one in weights.items() if "embed" in name)
    with torch.no_grad():
        for name, one in weights.items():
            if one.ndim == 2:
                one.normal_(std=0.05)
            if "o_proj" in name or "down_proj" in name:
                one.zero_()
        for place in range(CIRCLE):
            head[FIRST + (place + 1) % CIRCLE] = words[FIRST + place]
    save_pretrained(model, folder)
    return folder


class Ours:
    """One model, with drafts or without."""

    def __init__(self, folder: Path, weights: str, drafts: str) -> None:
        from bloomery.engine import EngineConfig, load_language_model

        self.model = load_language_model(folder, device="cpu", weights=weights)
        self.model.set_engine(EngineConfig(drafts=drafts))

    def write(self, new: int, options: dict[str, Any]) -> tuple[list[int], float, float]:
        """(token ids, tokens a second of decode, share of guesses that were right)."""
        prompt = [FIRST + i % CIRCLE for i in range(PROMPT)]
        request = self.model.request(prompt, [{**options, "max_new_tokens": new, "ignore_eos": True}], shares=False)
        *_, (_, last) = self.model.engine.run(request)
        result = last.result
        assert result is not None
        right = result.timings.accepted_tokens / max(1, result.timings.drafted_tokens)
        return list(result.token_ids), (new - 1) / result.timings.decode_seconds, right


def compare(title: str, name: str, folder: Path, weights: str, options: argparse.Namespace) -> dict[str, Any]:
    """The ratios of a text, what of the guesses was right, and whether texts are equal."""
    plain, guessing = (Ours(folder, weights, drafts) for drafts in ("off", "ngram"))
    ratios, right, equal = [], 0.0, True
    for model in (plain, guessing):
        model.write(640, ASKED["free"])  # native weights come into large pages after 512 steps, while others work
    time.sleep(5.0)
    for pair in range(1 + options.pairs):
        ids, slow, _ = plain.write(options.new, ASKED[name])
        same, fast, right = guessing.write(options.new, ASKED[name])
        equal = equal and ids == same
        if pair:  # the first warms up
            ratios.append(fast / slow)
    middle = statistics.median(ratios)
    told = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), bar {BARS[name]}, {right:.0%} of guesses right"
    print(f"{title}, {name}: {told}, texts {'equal' if equal else 'DIFFER'}", flush=True)
    return {"name": name, "ratios": ratios, "right": right, "equal": equal, "met": equal and middle >= BARS[name]}


def compare_heads(options: argparse.Namespace, weights: str) -> bool:
    """Whether a model writes the same texts with its heads' guesses."""
    from bloomery.core.workspace import as_workspace
    from bloomery.engine import load_language_model
    from bloomery.models.future_heads import KIND, FutureHeads

    workspace = as_workspace(options.home)
    heads = FutureHeads.load(workspace.find(options.heads, kind=KIND).path)
    plain, guessing = (load_language_model(options.model, weights=weights, workspace=workspace) for _ in range(2))
    guessing.set_draft_heads(heads)
    ids = plain.tokenizer.encode(options.text.read_text(encoding="utf-8"))
    step, equal = max(PROMPT, len(ids) // (1 + options.pairs)), True
    prompts = [ids[place : place + PROMPT] for place in range(0, len(ids) - PROMPT, step)][: 1 + options.pairs]
    for name, asked in (("greedy", {"temperature": 0.0}), ("temperature 1", {"temperature": 1.0, "seed": 7})):
        ratios, right, drafted = list[float](), 0, 0
        for number, prompt in enumerate(prompts):
            taken = []
            for model in (plain, guessing):
                request = model.request(prompt, [{**asked, "max_new_tokens": options.new}], shares=False)
                *_, (_, last) = model.engine.run(request)
                taken.append(last.result)
            before, after = taken
            equal = equal and before.token_ids == after.token_ids
            right, drafted = right + after.timings.accepted_tokens, drafted + after.timings.drafted_tokens
            if number and len(after.token_ids) > 1:  # the first warms up
                ratios.append(before.timings.decode_seconds / after.timings.decode_seconds)
        told = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        share = right / max(1, drafted)
        print(f"{options.model} {weights}, {name}: {told}, {share:.0%} of {drafted:,} guesses right", flush=True)
    print(f"texts {'equal' if equal else 'DIFFER'}")
    return equal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="15M,135M")
    parser.add_argument("--weights", default="plain,int8")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--model", default="", help="a trained model")
    parser.add_argument("--heads", default="", help="its extra heads")
    parser.add_argument("--text", type=Path, help="what neither has read")
    parser.add_argument("--home", default=None)
    parser.add_argument("--keep", action="store_true", help="among the results of the experiments")
    options = parser.parse_args()
    if options.heads:
        equal = [compare_heads(options, weights) for weights in options.weights.split(",")]
        return 0 if all(equal) else 1
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bloomery-drafts-") as home:
        peer = runpy.run_path(str(Path(__file__).with_name("bench_engine.py")))
        for size in options.sizes.split(","):
            free = peer["make_folder"](Path(home), size)
            folders = {"repeats": make_circle(Path(home), peer["SIZES"], size, free), "free": free}
            for weights, name in itertools.product(options.weights.split(","), folders):
                found = compare(f"{size} {weights}", name, folders[name], weights, options)
                rows.append({"size": size, "weights": weights, **found})
    if options.keep:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "experiments"))
        importlib.import_module("common").keep("drafts", {"new": options.new, "bars": BARS, "rows": rows})
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
