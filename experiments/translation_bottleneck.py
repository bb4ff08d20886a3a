"""The bottleneck in translation: Multi30k, German to English, with three kinds of net.

    python experiments/translation_bottleneck.py [--epochs N] [--seeds N] [--limit N] [--timed]

Trains a GRU whose decoder sees the encoder's last state at every step, a bidirectional GRU with additive attention and
a transformer (T5 v1.1's) of like size on the 29,000 training pairs, all with the same subwords, batches and number of
epochs; translates the test set of 2016 greedily and prints sacreBLEU, whole and by length of the source, and how far
the first is behind. `--timed`, on a machine that does nothing else, trains each for some steps, in turn, and adds the
tokens a second to the results. Published at full size (256 / 512 wide, words, more epochs): LSTM 13.8, GRU with
attention 28.3, a transformer above.

Hyperparameters were chosen on the validation pairs alone. What this does not know: nets of the published sizes.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from common import RESULTS, SEEDS, data, keep, over_seeds, run_arms, scratch_home, shown, write_jsonl

NETS: dict[str, dict[str, Any]] = {
    "GRU": {"family": "gru", "context": "every_step", "bidirectional": False, "hidden_size": 144},
    "GRU with attention": {"family": "gru", "context": "additive", "bidirectional": True, "hidden_size": 128},
    "transformer": {"family": "t5", "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4},
}
OPTIMIZERS: dict[str, tuple[str, float]] = {
    "GRU": ("muon", 0.01),
    "GRU with attention": ("muon", 0.01),
    "transformer": ("muon", 0.01),
}
VOCABULARY, BATCH, LONGEST = 3000, 64, 80
BANDS = ((0, 9), (10, 12), (13, 16), (17, 99))


def lines(name: str) -> list[str]:
    """The sentences of one file."""
    return gzip.decompress(data("multi30k", f"{name}.gz").read_bytes()).decode().strip().split("\n")


def corpus(home: str, limit: int) -> Any:
    """The training pairs as a corpus: the text is German, its field "en" the English."""
    from bloomery.corpus import CurateConfig, curate

    rows = [{"text": de, "en": en} for de, en in zip(lines("train.de"), lines("train.en"), strict=True)]
    path = write_jsonl(Path(home) / "multi30k.jsonl", rows[: limit or None])
    config = CurateConfig(
        sources=(str(path),),
        metadata_fields=("en",),
        validation_fraction=0.02,
        test_fraction=0.0,
        decontaminate_words=0,
    )
    return curate(config=config, workspace=home)


def scored(texts: list[str], sources: list[str], references: list[str]) -> tuple[dict[str, float], dict[str, float]]:
    """sacreBLEU, whole and by words of the source; the whole's interval over sentences, resampled."""
    import sacrebleu

    whole = sacrebleu.BLEU().corpus_score(texts, [references], n_bootstrap=1000)
    said = json.loads(whole.format(signature="case:mixed", is_json=True))
    middle, half = said["confidence_mean"], said["confidence_var"]
    bleu = {"all": whole.score}
    for low, high in BANDS:
        rows = [i for i, text in enumerate(sources) if low <= len(text.split()) <= high]
        score = sacrebleu.corpus_bleu([texts[i] for i in rows], [[references[i] for i in rows]])
        bleu[f"{low}-{high}"] = score.score
    return bleu, {"mean": whole.score, "low": middle - half, "high": middle + half}


def trained(
    home: str, pairs: str, seed: int, net: dict[str, Any], optimizer: list[Any], *, epochs: float = 0, steps: int = 0
) -> Any:
    """One net, trained: its artifact."""
    from bloomery.core.workspace import Workspace
    from bloomery.tokenizer import TokenizerConfig
    from bloomery.training import TrainConfig, train
    from bloomery.training.building import NetConfig
    from bloomery.training.fit import FitConfig

    config = TrainConfig(
        objective="sequence",
        target_field="en",
        context_length=LONGEST,
        net=NetConfig(**{"num_hidden_layers": 1, **net}),
        fit=FitConfig(
            epochs=epochs,
            steps=steps,
            batch_rows=BATCH,
            optimizer=optimizer[0],
            learning_rate=optimizer[1],
            max_norm=1.0,
            decay_fraction=0.8,
            validations=0,
            precision="float32",
            device="cpu",
            seed=seed,
        ),
        label_smoothing=0.1,
    )
    return train(
        Workspace(home).find(pairs, kind="corpus"),
        config=config,
        tokenizer_config=TokenizerConfig(vocab_size=VOCABULARY),
        workspace=home,
    )


def one(
    home: str, pairs: str, kind: str, seed: int, epochs: float, split: str, net: dict[str, Any], optimizer: list[Any]
) -> dict[str, Any]:
    """Train one net and score it; the figures of one arm."""
    from bloomery.engine import SequenceModel, load

    made = trained(home, pairs, seed, net, optimizer, epochs=epochs)
    sources, references = lines(f"{split}.de"), lines(f"{split}.en")
    model = load(made.path, device="cpu")
    assert isinstance(model, SequenceModel)
    texts = [one.text for one in model.translate([text.strip() for text in sources], max_new_tokens=LONGEST)]
    bleu, resampled = scored(texts, sources, references)
    print(f"{kind}, seed {seed}: BLEU {bleu['all']:.1f}", flush=True)
    return {
        "kind": kind,
        "seed": seed,
        "bleu": bleu,
        "resampled": resampled,
        "parameters": made.metrics["parameters"],
        "steps": made.metrics["steps"],
        "nats_per_token": made.metrics["validation_nats_per_token"],
        "example": texts[0],
    }


def gaps(found: list[dict[str, Any]]) -> dict[str, Any]:
    """How far the GRU is behind each other net, seed by seed: BLEU, and the share of the other's BLEU."""
    by = {(arm["kind"], arm["seed"]): arm["bleu"] for arm in found}
    seeds = sorted({arm["seed"] for arm in found})
    table: dict[str, Any] = {}
    for other in (kind for kind in NETS if kind != "GRU"):
        pairs = [(by["GRU", seed], by[other, seed]) for seed in seeds]
        table[other] = {
            "difference": {band: over_seeds([b[band] - a[band] for a, b in pairs]) for band in pairs[0][0]},
            "share": {band: over_seeds([a[band] / b[band] for a, b in pairs]) for band in pairs[0][0]},
        }
    return table


def speeds(home: str, pairs: str, *, steps: int = 60, rounds: int = 3) -> dict[str, Any]:
    """Tokens a second of training, the nets in turn."""
    import torch

    found: dict[str, list[float]] = {kind: [] for kind in NETS}
    for seed in range(rounds):
        for kind in NETS:
            made = trained(home, pairs, seed, NETS[kind], list(OPTIMIZERS[kind]), steps=steps)
            found[kind].append(made.metrics["tokens_per_second"])
            print(f"{kind}: {found[kind][-1]:,.0f} tokens/s", flush=True)
    nets = {kind: over_seeds(values) for kind, values in found.items()}
    return {"nets": nets, "steps": steps, "rounds": rounds, "threads": torch.get_num_threads()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=float, default=3)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--limit", type=int, default=0, help="training pairs; 0: all")
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--split", default="test_2016_flickr", help="val while choosing hyperparameters")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--timed", action="store_true", help="add speeds to the results that are there")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    nets = options.nets.split(",")
    if options.home:
        Path(options.home).mkdir(parents=True, exist_ok=True)
    with scratch_home(options.home) as home:
        from bloomery.tokenizer import TokenizerConfig, train_tokenizer

        made = corpus(home, options.limit)
        train_tokenizer(made, config=TokenizerConfig(vocab_size=VOCABULARY, metadata_fields=("en",)), workspace=home)
        if options.timed:
            kept = json.loads((RESULTS / "translation.json").read_text(encoding="utf-8"))
            keep("translation", {**kept, "speeds": speeds(home, made.id)})
            return
        arms = [
            (home, made.id, kind, seed, options.epochs, options.split, NETS[kind], list(OPTIMIZERS[kind]))
            for seed in range(options.seeds)
            for kind in nets
        ]
        found = run_arms(one, arms, jobs=options.jobs, settings=[VOCABULARY, BATCH, LONGEST])
    table: dict[str, Any] = {}
    for kind in nets:
        mine = [one for one in found if one["kind"] == kind]
        table[kind] = {
            "bleu": {band: over_seeds([one["bleu"][band] for one in mine]) for band in mine[0]["bleu"]},
            "parameters": mine[0]["parameters"],
        }
        if len(mine) == 1:  # no interval over seeds: that over the test's sentences
            table[kind]["resampled"] = mine[0]["resampled"]
        figures = table[kind]["bleu"]
        print(f"{kind:20s}", *(f"{band}: {shown(value, '.1f')}" for band, value in figures.items()))
    if options.split.startswith("test") and not options.limit and nets == list(NETS):
        sizes = {"epochs": options.epochs, "batch": BATCH, "vocabulary": VOCABULARY, "nets": NETS}
        keep("translation", {**sizes, "seeds": options.seeds, "arms": found, "table": table, "gaps": gaps(found)})


if __name__ == "__main__":
    main()
