"""docs/results.md out of the results that the experiments kept.

    python experiments/write_results.py [--check]

Every number in the document is in `experiments/results/`; what was not measured is said to be so. `--check` fails if
the document is not what this would write.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from common import PROJECT, RESULTS, SEEDS, shown
from label_tables import labels_quality, labels_tuned, recommended, seeds_of, table
from retrieval_tables import hybrid_retrieval, not_in_documents, retrieval_training
from speed_tables import drafts, engine, formats, nanogpt, roofline, starts, utilisation
from training_tables import ablation, plans, reinforced, replay, sweeps, trainer, unknown_text

TARGET = PROJECT / "docs" / "results.md"
HEAD = """# Results

Small models on two cores, three seeds each where nothing else is said; every number was written here by `make results`
out of `experiments/results/`. The command under a table measures it again; `make experiments` runs those that need no
more than the project and its data. Not in it: what compares speeds or plans and needs hours of a machine that does
nothing else (the commands of `benchmarks/`, translation's `--timed`), the tables of a faster decoder (hours each), the
tuned models of labels (they need models to begin with), and the first setting of Blanks, which was left. Intervals are
95%: Student's t over seeds, unless said otherwise. The literature's figures stand beside ours where there are any:
theirs are larger nets, longer trained.
"""


def translation(found: Mapping[str, Any]) -> str:
    """Multi30k."""
    published = {"GRU": "LSTM 13.8", "GRU with attention": "28.3", "transformer": "above that"}
    nets, speeds = found["table"], found.get("speeds")
    bands = list(next(iter(nets.values()))["bleu"])
    rows = []
    for kind, one in nets.items():
        scores = [
            shown(one.get("resampled", one["bleu"][band]), ".1f")
            if band == "all"
            else f"{one['bleu'][band]['mean']:.1f}"
            for band in bands
        ]
        speed = [shown(speeds["nets"][kind], ",.0f")] if speeds else []
        rows.append([kind, f"{one['parameters']:,}", *scores, *speed, published.get(kind, "")])
    named = ["BLEU, all" if band == "all" else f"{band} words" for band in bands]
    speed = ["tokens/s of training"] if speeds else []
    text = table(["net", "parameters", *named, *speed, "published, full size"], rows)
    note = "How fast each trains is not said: it takes a machine that does nothing else, and `--timed`."
    if speeds:
        note = (
            f"Speed: {speeds['rounds']} rounds of {speeds['steps']} steps, the nets in turn, {speeds['threads']} "
            "threads, source and target tokens counted (`--timed`, on a machine that does nothing else)."
        )
    means = "means over seeds"
    if found["seeds"] == 1:
        means = "no interval; that of the whole is over sentences, resampled"
    return (
        f"Multi30k, German to English, test of 2016, sacreBLEU, greedy; {seeds_of(found)}. Every net has the same "
        f"pairs, batches of {found['batch']} and {found['epochs']:g} epochs; {found['vocabulary']:,} subwords; "
        f"choices were made on the validation pairs. By words of the source: {means}. {note}\n\n{text}{_gaps(found)}"
    )


def _gaps(found: Mapping[str, Any]) -> str:
    """How far the net with one vector is behind, by length."""
    if "gaps" not in found:
        return ""
    names = {"difference": "behind by, BLEU", "share": "share of its BLEU"}
    rows = [
        [other, names[what], *(shown(value, ".1f" if what == "difference" else ".2f") for value in bands.values())]
        for other, both in found["gaps"].items()
        for what, bands in both.items()
    ]
    bands = next(iter(next(iter(found["gaps"].values())).values()))
    head = ["the GRU beside", "", *("all" if band == "all" else f"{band} words" for band in bands)]
    return f"\n\nThe GRU without attention beside the others, seed by seed:\n\n{table(head, rows)}"


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
            gains = [figures[key] for key in ("over_scratch", "over_scratch_seeds")]
            gain = ["", ""] if kind == "from scratch" else [shown(one, "+.3f") for one in gains]
            rows.append([task, f"{one['labels']:,}", kind, shown(figures["accuracy"], ".3f"), *gain])
    columns = ["task", "labels", "net", "accuracy", "over scratch (texts resampled)", "over scratch (over seeds)"]
    text = table(columns, rows)
    net, plain = found["net"], found["plain"]
    learnt = " and ".join(
        f"{ones[0]['steps']:,} steps ({kind}: {ones[0]['parameters']:,} parameters, "
        f"{ones[0]['tokens_read'] / 1e6:.1f}M tokens)"
        for kind, ones in plain.items()
    )
    tried = ", ".join(f"{optimizer} {rate:g}" for optimizer, rate in found["grid"])
    missing = "" if "causal" in plain else " A causal net beside them is not measured yet."
    return (
        f"Nets of {net['num_hidden_layers']} layers, {net['hidden_size']} wide, {found['vocabulary']:,} subwords, "
        f"trained on plain text for {learnt}, anew for every seed, then tuned on labels; every seed draws "
        "other labels, where there are more. Optimiser and learning rate were chosen on a fifth of SST-2's training "
        f"labels, with one seed, of {tried}: {found['chosen'][0]} {found['chosen'][1]:g} was the best, or as good as "
        f"the best, for every net.{missing} SST-2 is scored on its dev set, SMS "
        "spam on a fifth that is held out. The last columns are the difference to the same net from scratch, paired by "
        "text, the mean over seeds: with the interval of other texts, and with that of other seeds (plain text "
        "anew, labels, order). For scale: BERT base "
        "(110 million parameters, 3.3 billion words of plain text, 67,000 labelled phrases) is published with .935 "
        f"on SST-2's test set.\n\n{text}{first_setting()}"
    )


def first_setting() -> str:
    """What the setting that was scored first gave on the same texts, if it is kept."""
    path = RESULTS / "blanks_adamw.json"
    if not path.is_file():
        return ""
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    told = []
    for task, one in tasks.items():
        gain = one["table"]["masked, then tuned"]["over_scratch"]
        told.append(f"{one['labels']:,} labels of {task.partition('-')[0]} {shown(gain, '+.3f')}")
    return (
        "\n\nThis is the second setting that was scored on these texts. The first, adamw 0.003, the better of two, "
        "gave "
        f"for masked over scratch: {', '.join(told)}. Of many labels the present one learns more, of few less."
    )


def label_functions(found: Mapping[str, Any]) -> str:
    """SMS spam and SST-2, labelled by rules."""
    rows, taught = [], []
    for task, one in found["tasks"].items():
        accuracies = [one["most_frequent"], one["majority_vote"], *one["models"].values(), one["snorkel"]]
        told = ["not measured" if value is None else f"{value:.4f}" for value in accuracies]
        rows.append([task, f"{one['covered']:,} of {one['test']:,}", *told, shown(one["over_votes"], "+.4f")])
        taught.append([task, *(shown(value, ".4f") for value in one["taught"].values())])
    first = next(iter(found["tasks"].values()))
    columns = ["task", "texts covered", "most frequent", "votes", *first["models"], "snorkel", "firing over votes"]
    learnt = table(["task", *(f"taught by {teacher}" for teacher in first["taught"])], taught)
    numbers = ", ".join(f"{one['functions']} for {task}" for task, one in found["tasks"].items())
    return (
        f"Labelling functions ({numbers}; `experiments/labels/`), label models fitted on the training texts, accuracy "
        "on held-out texts of which a function says something: SST-2's dev set, three tenths of SMS spam. Gold labels "
        "were used for these figures alone. The interval is over texts, resampled. snorkel is its label model with the "
        f"defaults of version 0.10 on the same votes.\n\n{table(columns, rows)}\n\nA mean of embeddings ("
        f"{found['steps']:,} steps) taught by gold labels, by the label model's and by votes, on all held-out texts; "
        f"{seeds_of(found)}:\n\n{learnt}"
    )


def dna(found: Mapping[str, Any]) -> str:
    """Tokenizers of sequences."""
    parts = []
    for task, one in found["tasks"].items():
        letter = "base" if task == "dna" else "residue"
        rows = [
            [
                name,
                f"{arm['vocab_size']:,}",
                f"{arm['letters_per_token']:.2f}",
                f"{arm['parameters']:,}",
                f"{arm['steps']:,}",
                f"{arm['epochs']:.1f}",
                shown(arm["bits"], ".3f"),
            ]
            for name, arm in one["arms"].items()
        ]
        head = ["tokens", "vocabulary", f"{letter}s a token", "parameters", "steps", "epochs", f"bits a {letter}"]
        order, least = min(one["markov"].items(), key=lambda each: each[1])
        sizes = one["letters"]
        parts.append(
            f"{'DNA' if task == 'dna' else 'Proteins'}, {sizes['train']:,} {letter}s to learn from, "
            f"{sizes['held_out']:,} held out; all alike would be {one['uniform']:.3f}, the best Witten-Bell model, of "
            f"order {order}, gives {least:.3f}.\n\n{table(head, rows)}"
        )
    return (
        f"Sequences cut in several ways, one causal model ({found['layers']} layers, {found['hidden']} wide) trained "
        f"with {found['petaflops'] * 1e3:g} TFLOP by each, {seeds_of(found)}. Lower is better.\n\n" + "\n\n".join(parts)
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


PARTS = {
    "emoji": "CLIP on emoji, a fifth of the names held out with all their skin tones: which of the held-out captions "
    "belongs to a held-out picture (first, in the first five, mean reciprocal rank), and its category",
    "shapes": "CLIP on drawn shapes, a sixth of shape x colour x position held out: which of all 120 is drawn",
    "cifar": "CLIP on CIFAR-10 photos, held-out photos by names of classes; cat and truck were never captioned",
    "captions": "A captioner of drawn shapes and its blind twin, on combinations that were held out",
}


def pictures(found: Mapping[str, Any]) -> str:
    """Emoji, shapes, photos, captions."""
    parts = []
    for part, kinds in found["table"].items():
        keys = list(next(iter(kinds.values())))
        rows = [[kind, *(shown(one[key], ".3f") if key in one else "" for key in keys)] for kind, one in kinds.items()]
        chance = found["chance"].get(part)
        if chance:
            rows.append(["chance", *(f"{chance[key]:.3f}" if key in chance else "1" for key in keys)])
        title = f"{PARTS[part]}; {found['steps'][part]:,} steps of {found['batch'][part]}."
        parts.append(f"{title}\n\n" + table(["model", *(key.replace("_", " ") for key in keys)], rows))
    loss = "Loss at start: of the first batch of pairs with different captions, in ln of their number."
    return f"{seeds_of(found).capitalize()}. {loss}\n\n" + "\n\n".join(parts)


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
        f"{seeds_of(found).capitalize()}. Trained for {found['steps']:,} steps of {found['batch']} x "
        f"{found['context']} tokens of Python source and, {found['repeated']} texts for each passage, of random "
        f"characters that come twice. The score, on {found['looked_at']} "
        f"characters and the same again, is 1 for a head that looks at nothing else; all alike would be about "
        f"{1 / (1.5 * found['looked_at']):.2f}. It rises where it is first half of what it reaches; one step for each "
        f"seed.\n\n{table(head, rows)}\n\nTwo layers as they train, first seed: score by layer (L) and head (H), and "
        f"nats per token on the first copy and the second.\n\n{table(*head_scores(found))}"
    )


def head_scores(found: Mapping[str, Any], rows: int = 12) -> tuple[list[str], list[list[str]]]:
    """Titles and lines of a table of every head of the deepest net, first seed, at about `rows` steps."""
    arm = max(found["arms"], key=lambda arm: (arm["layers"], -arm["seed"]))
    looks = arm["looks"]
    chosen = sorted({round(i * (len(looks) - 1) / (rows - 1)) for i in range(rows)})
    heads = [(layer, head) for layer, ones in enumerate(looks[0]["scores"]) for head in range(len(ones))]
    lines = [
        [
            f"{one['step']:,}",
            *(f"{one['scores'][layer][head]:.2f}" for layer, head in heads),
            *(f"{one[key]:.2f}" for key in ("nats_first", "nats_second")),
        ]
        for one in (looks[place] for place in chosen)
    ]
    return ["step", *(f"L{layer}H{head}" for layer, head in heads), "first", "second"], lines


def quality(found: Mapping[str, Any]) -> str:
    """Filtered and small, raw and large."""
    rows, sets = [], list(found["scored"])
    for steps, arms in found["table"].items():
        for arm, one in arms.items():
            size = found["sizes"][arm]
            bits = [shown(one["bits"][name], ".3f") for name in sets]
            less = ["" if arm == "raw-large" else shown(one["less"][name], "+.3f") for name in sets]
            rows.append([f"{int(steps):,}", arm, f"{size['bytes'] / 1e6:.2f}", f"{one['epochs'] + 1}", *bits, *less])
    head = ["steps", "trained on", "MB", "in epoch", *sets, *(f"fewer than raw-large, {name}" for name in sets)]
    net, area = found["net"], found["classifier"].get("area_under_curve")
    said = f" (area under its curve on texts that it was not fitted on: {area:.2f})" if area else ""
    return (
        f"The same model ({net['num_hidden_layers']} layers, {net['hidden_size']} wide, {found['vocabulary']:,} "
        f"subwords) at equal computation, steps of {found['batch']} x {found['context']} tokens, on web text as it "
        "came (raw-large), on what rules, language and a classifier of quality left of it (filtered-small)"
        f"{said}, and on a random part of the raw text of that size (raw-small). Bits per byte, lower is better, of "
        f"{found['scored']['good web']} web texts that people called good and {found['scored']['articles']} Wikipedia "
        "articles; no arm holds a text that shares 13 words in a row with them. Differences are paired by seed."
        "\n\n" + table(head, rows)
    )


def covered(found: Mapping[str, Any]) -> str:
    """What intervals cover."""

    def said(one: Mapping[str, float]) -> str:
        mark = "" if abs(one["covered"] - found["level"]) <= 0.015 else " *"
        warned = f" ({one['cautious']:.0%} say so)" if one.get("cautious", 0) >= 0.005 and mark else ""
        return f"{100 * one['covered']:.1f}{mark}{warned}"

    rows = [
        [
            name,
            *(
                f"{said({'covered': one['mean']})} (worst {100 * one['worst']:.1f}, {one['within']:.0%})"
                for one in ways.values()
            ),
        ]
        for name, ways in found["rates"].items()
    ]
    parts = [
        f"How many of 100 intervals of {100 * found['level']:g}% hold the truth that {found['draws']:,} data sets were "
        f"drawn around (bootstraps of {found['resamples']:,} resamples); * is more than 1.5 points off, with how many "
        "of those intervals say themselves that they may be too short (`caution`). For shares "
        "every outcome is enumerated: the mean over true shares, the worst, and how many are within 1.5 points.",
        table(["shares", *next(iter(found["rates"].values()))], rows),
    ]
    for part, cells in found["cells"].items():
        ways = list(dict.fromkeys(way for one in cells.values() for way in one))
        lines = [[name, *(said(one[way]) if way in one else "" for way in ways)] for name, one in cells.items()]
        parts.append(table([part, *ways], lines))
    parts.append("Tests: 100 less the false findings, where A and B are equally good and 5 are allowed.")
    return "\n\n".join(parts)


def compare_null(found: Mapping[str, Any]) -> str:
    """The verdict of a comparison on drawn scores."""

    def what(row: Mapping[str, Any]) -> str:
        names = {"arms": "arms", "items": "questions", "cluster_size": "a cluster", "rate": "right"}
        parts = [f"{row[key]} {name}" for key, name in names.items() if key in row]
        return ", ".join([*parts, *(["marks from 0 to 1"] if row.get("binary") is False else [])])

    null = [[what(row), str(row["told_apart"])] for row in found["rows"] if "lift" not in row]
    power = [
        [what(row), f"{row['lift']:g}", str(row["best_alone"]), str(row["best_left"])]
        for row in found["rows"]
        if "lift" in row
    ]
    return "\n\n".join(
        [
            f"The real verdict on scores that were drawn, {found['runs']} times each; 200 questions and a share right "
            "of .7 where nothing else is said. Where all arms are equally good, how often any two were told apart:",
            table(["no difference", "told apart"], null),
            "Where one is better by so much, how often it alone was left undefeated, and how often it was among those "
            "left:",
            table(["one arm better", "by", "left alone", "left"], power),
        ]
    )


SECTIONS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], str], str], ...] = (
    ("Bottleneck: translation", "translation", translation, "translation_bottleneck.py"),
    ("Bottleneck: sequences", "sequences", sequences, "sequence_bottleneck.py"),
    ("Blanks: few labels", "blanks", blanks, "blanks.py"),
    ("Blanks: planted bugs", "bugs", bugs, "code_bugs.py"),
    ("Pictures", "pictures", pictures, "pictures.py"),
    ("Heads", "heads", heads, "heads.py"),
    ("Quality or quantity", "quality", quality, "quality_vs_quantity.py"),
    ("Tokenizers of sequences", "dna_tokenizers", dna, "dna_tokenizers.py"),
    ("Labels and quality", "labels_quality", labels_quality, "labels_quality.py"),
    ("Labels and quality: tuned models", "labels_tuned", labels_tuned, "labels_tuned.py --home FOLDER"),
    ("Recommending", "recommend_terminals", recommended, "recommend_terminals.py"),
    ("Retrieval: trained models", "retrieval_training", retrieval_training, "retrieval_training.py"),
    ("Retrieval: words, meaning, both", "hybrid_retrieval", hybrid_retrieval, "hybrid_retrieval.py"),
    ("Retrieval: not in the documents", "not_in_documents", not_in_documents, "not_in_documents.py"),
    ("Labels by rules", "label_functions", label_functions, "label_functions.py"),
    ("Rewards that can be checked", "reinforced_sums", reinforced, "reinforced_sums.py"),
    ("A domain, and what is forgotten", "domain_replay", replay, "domain_replay.py"),
    ("Plans and what happened", "plans", plans, "benchmarks/bench_planner.py --keep"),
    ("Plans for unknown text", "small_law", unknown_text, "fit_small_law.py"),
    ("A faster decoder: its parts", "ablation_fast_1M_steps", ablation, "ablation_fast.py --steps 150"),
    ("A faster decoder: in equal time", "ablation_fast_1M", ablation, "ablation_fast.py --seconds 40"),
    ("A faster decoder: 2 million", "ablation_fast_3M", ablation, "ablation_fast.py --seconds 100 --size 3M"),
    ("A faster decoder: 4 million", "ablation_fast_6M", ablation, "ablation_fast.py --seconds 160 --size 6M"),
    ("A faster decoder: 12 million", "ablation_fast_15M", ablation, "ablation_fast.py --seconds 420 --size 15M"),
    (
        "Beside transformers' Trainer",
        "trainer",
        trainer,
        "benchmarks/bench_trainer.py --fast --seconds 600 --keep --home FOLDER",
    ),
    ("Beside nanoGPT", "shakespeare", nanogpt, "benchmarks/bench_shakespeare.py NANOGPT --keep"),
    ("Utilisation", "utilisation", utilisation, "benchmarks/bench_utilisation.py --keep"),
    ("Beside llama.cpp", "engine", engine, "benchmarks/bench_engine.py --llama PYTHON --keep"),
    (
        "Lighter weights",
        "formats",
        formats,
        "benchmarks/bench_formats.py MODEL TEXT --calibrate TEXT --llama PYTHON --keep",
    ),
    ("Guesses", "drafts", drafts, "benchmarks/bench_drafts.py --keep"),
    ("From start to first token", "start", starts, "benchmarks/bench_start.py --llama PYTHON --keep"),
    ("One stream and the memory", "roofline", roofline, "benchmarks/bench_roofline.py --keep"),
    ("Sweeps: hopeless trials stopped", "sweep_regret", sweeps, "sweep_regret.py"),
    ("What intervals cover", "intervals", covered, "intervals.py"),
    ("Comparisons: verdicts on drawn scores", "compare_null", compare_null, "compare_null.py"),
)


def document() -> str:
    """The whole of docs/results.md."""
    parts = [HEAD]
    for title, name, write, script in SECTIONS:
        path = RESULTS / f"{name}.json"
        parts.append(f"## {title}\n")
        if not path.is_file():
            parts.append(f"Not measured yet: `python {_path(script, {})}`.\n")
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        seeds = found.get("seeds", len(SEEDS))
        command = f"python {_path(script, found)}" + (f" --seeds {seeds}" if seeds != len(SEEDS) else "")
        command = f"{command} {found.get('arguments', '')}".rstrip()
        parts.append(f"{write(found)}\n\n`{command}`, {found['machine']}.\n")
    return "\n".join(parts)


def _path(script: str, found: Mapping[str, Any]) -> str:
    """A section's script with its arguments, of which some are as they were when it was measured."""
    for name in ("seconds", "steps"):
        if f"--{name} " in script and name in found:
            script = re.sub(rf"--{name} \S+", f"--{name} {found[name]:g}", script)
    script = script if found.get("fast", True) else script.replace(" --fast", "")
    return script if script.startswith("benchmarks/") else f"experiments/{script}"


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
