"""docs/results.md out of the results that the experiments kept.

    python experiments/write_results.py [--check]

Every number in the document is in `experiments/results/`; what was not measured is said to be so. `--check` fails if
the document is not what this would write.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from common import PROJECT, RESULTS, shown

TARGET = PROJECT / "docs" / "results.md"
HEAD = """# Results

Small models on two cores, three seeds each; every number was written here by `make results` out of
`experiments/results/`, and `make experiments` measures them again. Intervals are 95%: Student's t over seeds, unless
said otherwise. The literature's figures stand beside ours where there are any: theirs are larger nets, longer trained.
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def translation(found: Mapping[str, Any]) -> str:
    """Multi30k."""
    published = {"GRU": "LSTM 13.8", "GRU with attention": "28.3", "transformer": "above that"}
    bands = list(next(iter(found["table"].values()))["bleu"])
    rows = []
    for kind, one in found["table"].items():
        speed = f"{one['tokens_per_second']['mean']:,.0f}"
        scores = [
            shown(one["bleu"][band], ".1f") if band == "all" else f"{one['bleu'][band]['mean']:.1f}" for band in bands
        ]
        rows.append([kind, f"{one['parameters']:,}", *scores, speed, published.get(kind, "")])
    named = ["BLEU, all" if band == "all" else f"{band} words" for band in bands]
    text = table(["net", "parameters", *named, "tokens/s of training", "published, full size"], rows)
    return (
        f"Multi30k, German to English, test of 2016, sacreBLEU, greedy; {found['epochs']:g} epochs, "
        f"{found['vocabulary']:,} subwords, batches of {found['batch']}. By words of the source: means over seeds. "
        f"One thread a net, source and target tokens counted.\n\n{text}"
    )


def sequences(found: Mapping[str, Any]) -> str:
    """Reverse and copy."""
    parts = []
    for task, nets in found["tasks"].items():
        lengths = list(next(iter(nets.values()))["accuracy"])
        rows = [[kind, *(f"{one['accuracy'][n]['mean']:.2f}" for n in lengths)] for kind, one in nets.items()]
        title = f"To {task} sequences of symbols; trained up to {found['trained']}, right tokens by length:"
        parts.append(title + "\n\n" + table(["net", *lengths], rows))
    return "\n\n".join(parts)


def blanks(found: Mapping[str, Any]) -> str:
    """SST-2 and SMS spam."""
    rows = []
    for task, one in found["tasks"].items():
        for kind, figures in one["table"].items():
            gain = "" if kind == "from scratch" else shown(figures["over_scratch"], "+.3f")
            rows.append([task, f"{one['labels']:,}", kind, shown(figures["accuracy"], ".3f"), gain])
    text = table(["task", "labels", "net", "accuracy", "over scratch (texts resampled)"], rows)
    net, plain = found["net"], found["plain"]
    learnt = " and ".join(
        f"{one['steps']:,} steps ({kind}: {one['parameters']:,} parameters, {one['tokens_read'] / 1e6:.1f}M tokens)"
        for kind, one in plain.items()
    )
    missing = "" if "causal" in plain else " A causal net beside them is not measured yet."
    return (
        f"Nets of {net['num_hidden_layers']} layers, {net['hidden_size']} wide, {found['vocabulary']:,} subwords, "
        f"trained on plain text for {learnt}, one of each kind, then tuned on labels; every seed draws other labels, "
        "where there are more. The learning rate, of two, was chosen on a fifth of SST-2's training labels, with one "
        f"seed: the higher one for every net.{missing} SST-2 is scored on its dev set, SMS spam on a "
        "fifth that is held out. The last column is the difference to the same net from scratch, paired by text, the "
        "mean over seeds; its "
        "interval is of the texts alone, not of pretraining anew. For scale: BERT base "
        "(110 million parameters, 3.3 billion words of plain text, 67,000 labelled phrases) is published with .935 "
        f"on SST-2's test set.\n\n{text}"
    )


def bugs(found: Mapping[str, Any]) -> str:
    """Planted bugs."""
    rows = [
        [kind, *(shown(one[key], ".3f") for key in ("first", "in_three", "mrr"))]
        for kind, one in found["table"].items()
    ]
    text = table(["ranked by", "first", "in the first three", "mean reciprocal rank"], rows)
    return (
        f"One token changed in each of {found['functions']} functions that were held out: where is it? Tokens are "
        f"ranked by how little the model expects them. Models of {found['net']['num_hidden_layers']} layers, "
        f"{found['net']['hidden_size']} wide, {found['vocabulary']:,} subwords, trained for {found['steps']:,} steps "
        f"of {found['batch']} x {found['context']} tokens.\n\n{text}"
    )


def pictures(found: Mapping[str, Any]) -> str:
    """Emoji, shapes, photos, captions."""
    parts = []
    for part, kinds in found["table"].items():
        keys = list(next(iter(kinds.values())))
        rows = [[kind, *(shown(one[key], ".3f") for key in keys)] for kind, one in kinds.items()]
        parts.append(f"**{part}**\n\n" + table(["model", *(key.replace("_", " ") for key in keys)], rows))
    return "What each part is stands in `experiments/pictures.py`.\n\n" + "\n\n".join(parts)


def heads(found: Mapping[str, Any]) -> str:
    """Induction."""
    rows = [
        [
            layers,
            shown(one["best_head"]),
            shown(one["gain"]),
            ", ".join(str(step) if step else "never" for step in one["rise_steps"]),
            shown(one["bits_per_byte"], ".3f"),
        ]
        for layers, one in found["table"].items()
    ]
    head = [
        "layers",
        "best head's induction score",
        "nats gained on what came before",
        "rises at step",
        "bits per byte",
    ]
    return (
        f"Trained for {found['steps']:,} steps of {found['batch']} x {found['context']} tokens of Python source. The "
        f"score is 1 for a head that looks at nothing else; all alike would be about .01. It rises where "
        f"it is first half of what it reaches; one step for each seed.\n\n" + table(head, rows)
    )


SECTIONS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], str], str], ...] = (
    ("Bottleneck: translation", "translation", translation, "translation_bottleneck.py"),
    ("Bottleneck: sequences", "sequences", sequences, "sequence_bottleneck.py"),
    ("Blanks: few labels", "blanks", blanks, "blanks.py"),
    ("Blanks: planted bugs", "bugs", bugs, "code_bugs.py"),
    ("Pictures", "pictures", pictures, "pictures.py"),
    ("Heads", "heads", heads, "heads.py"),
)


def document() -> str:
    """The whole of docs/results.md."""
    parts = [HEAD]
    for title, name, write, script in SECTIONS:
        path = RESULTS / f"{name}.json"
        parts.append(f"## {title}\n")
        if not path.is_file():
            parts.append(f"Not measured yet: `python experiments/{script}`.\n")
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"{write(found)}\n\n`python experiments/{script}`, {found['machine']}.\n")
    return "\n".join(parts)


def main() -> None:
    text = document()
    if "--check" in sys.argv[1:]:
        if not TARGET.is_file() or TARGET.read_text(encoding="utf-8") != text:
            raise SystemExit(
                f"error: {TARGET.name} is not what the results say\nhint: python experiments/write_results.py"
            )
        return
    TARGET.write_text(text, encoding="utf-8")
    print(f"wrote {TARGET.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
