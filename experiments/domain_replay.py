"""Domain and replay: what a model learns from web pages, what it forgets of stories, by the share of stories read
again.

    python experiments/domain_replay.py [--seeds N] [--shares 0,.1,.3]

A published model (stories260K of llama2.c: 260,000 parameters, trained on TinyStories) reads a third of 235 pages of C4
once, with no stories among them, a tenth, or three tenths. Bits per byte of the same held-out documents before and
after: of pages, of stories, and of two controls that no training had, Shakespeare and Japanese. Pages are as many in
every arm, so replay costs steps. Intervals are studentised over documents, paired, for each seed, and Student's t over
seeds.
What this does not know: larger models and longer training; and the stories that are replayed may be of those that the
model was trained on, as they would be for anybody who kept the data.
"""

from __future__ import annotations

import argparse
import importlib.util
import lzma
from pathlib import Path
from typing import Any

from common import PROJECT, SEEDS, data, keep, over_seeds, run_arms, scratch_home, shown, write_jsonl

SHARES = (0.0, 0.1, 0.3)
CONTEXT, ROWS, DOCUMENTS, PASSES = 256, 8, 30, 1 / 3
"""Tokens of a row, rows of a step, documents of each kind that are measured, passes over the pages."""
SOURCES: dict[str, tuple[tuple[str, ...], int]] = {
    "pages": (("text", "c4_demo.jsonl.xz"), 0),
    "stories": (("tinystories", "tinystories_cased_2MB.txt.xz"), 0),
    "Shakespeare": (("text", "tinyshakespeare.txt.xz"), 1500),
    "Japanese": (("text", "wagahaiwa_ja.txt.xz"), 500),
}
"""A file, and at how many characters it is cut into documents."""


def corpora(home: str) -> dict[str, Any]:
    """A corpus of each kind of text, a fifth held out."""
    from bloomery.corpus import CurateConfig, curate

    return {
        kind: curate(
            config=CurateConfig(
                sources=(str(stories(home, data(*parts)) if kind == "stories" else data(*parts)),),
                cut_characters=cut,
                validation_fraction=0.02,
                test_fraction=0.2,
            ),
            workspace=home,
        )
        for kind, (parts, cut) in SOURCES.items()
    }


def stories(home: str, path: Path) -> Path:
    """A row for each story of a file that has a mark after each."""
    target = Path(home) / "stories.jsonl"
    if not target.is_file():
        told = lzma.decompress(path.read_bytes()).decode().split("<|endoftext|>")
        write_jsonl(target, ({"text": story.strip()} for story in told if story.strip()))
    return target


def published(home: str) -> Any:
    """stories260K, converted, as an artifact."""
    from bloomery.engine.exchange import import_model

    path = PROJECT / "tests" / "golden" / "llama2c.py"
    spec = importlib.util.spec_from_file_location("llama2c", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = Path(home) / "stories260K"
    module.convert_llama2c(data("weights", "stories260K.bin"), data("weights", "tok512.bin"), folder)
    return import_model(folder, workspace=home)


def one(home: str, share: float, seed: int) -> dict[str, Any]:
    """One share, one seed."""
    from bloomery.adapt.domain import DomainConfig, adapt_domain
    from bloomery.adapt.domain.config import DomainFitConfig
    from bloomery.adapt.domain.forgetting import lines

    texts, model = corpora(home), published(home)
    fit = DomainFitConfig(epochs=PASSES, batch_rows=ROWS, seed=seed, device="cpu", validations=0)
    made = adapt_domain(
        model,
        texts["pages"],
        general=texts["stories"],
        controls={kind: texts[kind] for kind in ("Shakespeare", "Japanese")},
        config=DomainConfig(replay=share, context_length=CONTEXT, report_documents=DOCUMENTS, fit=fit),
        workspace=home,
    )
    print(f"replay {share:g}, seed {seed}, {made.metrics['steps']} steps", flush=True)
    print("\n".join(lines(made.metrics["forgetting"])), flush=True)
    return {
        "share": share,
        "seed": seed,
        "steps": made.metrics["steps"],
        "learning_rate": made.metrics["learning_rate"],
        "rows": [made.metrics["domain_rows"], made.metrics["general_rows"]],
        "seconds": made.metrics["training_seconds"],
        "changes": made.metrics["forgetting"],
    }


def main() -> None:
    """Train, measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shares", default=",".join(map(str, SHARES)))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    shares = [float(share) for share in options.shares.split(",")]
    with scratch_home(options.home) as home:
        corpora(home), published(home)  # once, before processes ask for them at the same time
        arms = [(home, share, seed) for seed in range(options.seeds) for share in shares]
        found = run_arms(one, arms, jobs=options.jobs)
    table: dict[str, Any] = {}
    for share in shares:
        mine = [row["changes"] for row in found if row["share"] == share]
        table[f"{share:g}"] = {
            first["kind"]: {
                "before": over_seeds([changes[place]["before"] for changes in mine]),
                "after": over_seeds([changes[place]["after"] for changes in mine]),
                "difference": over_seeds([changes[place]["difference"] for changes in mine]),
                "verdicts": [_verdict(changes[place]) for changes in mine],
            }
            for place, first in enumerate(mine[0])
        }
        row = table[f"{share:g}"]
        print(f"replay {share:g}:", *(f"{kind} {shown(one['difference'], '+.3f')}" for kind, one in row.items()))
    if options.seeds == len(SEEDS):
        sizes = {"context": CONTEXT, "rows": ROWS, "documents": DOCUMENTS, "passes": PASSES}
        keep("domain_replay", {**sizes, "table": table, "arms": found})


def _verdict(change: dict[str, Any]) -> str:
    from bloomery.adapt.domain.forgetting import Change

    return Change(**change).verdict


if __name__ == "__main__":
    main()
