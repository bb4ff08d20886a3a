"""How a sequence is cut, in bits per base: single bases, codons, k-mers and byte pairs under one small model.

    python experiments/dna_tokenizers.py [--tasks dna,proteins] [--petaflops N] [--seeds N] [--jobs N]

DNA: phage lambda, a chloroplast, a plasmid and HIV in pieces of 480 bases; the last tenth of every genome is held out.
Proteins: those of the chloroplast and a few others; every tenth is held out. Every arm trains the same causal model
(only its rows for tokens differ) with the same arithmetic: 6 operations for each weight and token, head and attention
counted, so coarser tokens see more sequence. Held-out pieces are scored whole after a BOS token, their length is not
coded; a piece cut in one way is scored in that way only. Beside them stand Witten-Bell models of order k, which read k
letters back, and log2 of the alphabet. What this does not know: large genomes, and models that saw other species.
"""

from __future__ import annotations

import argparse
import io
import math
import re
import tarfile
from typing import Any

import numpy as np
from common import SEEDS, data, keep, over_seeds, run_arms, scratch_home, shown

LENGTH, ROWS, CONTEXT = 480, 8, 512
HIDDEN, LAYERS, HEADS = 96, 2, 4
RATE, WARM = 3e-3, 0.1
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    "dna": {
        "bases": {"kind": "kmer", "kmer": 1},
        "codons": {"kind": "codon"},
        "4-mers": {"kind": "kmer", "kmer": 4},
        "6-mers": {"kind": "kmer", "kmer": 6},
        "BPE 320": {"kind": "bpe", "vocab_size": 320},
        "BPE 1024": {"kind": "bpe", "vocab_size": 1024},
    },
    "proteins": {
        "residues": {"kind": "residue"},
        "BPE 320": {"kind": "bpe", "vocab_size": 320},
        "BPE 1024": {"kind": "bpe", "vocab_size": 1024},
    },
}
ALPHABET = {"dna": 4, "proteins": 20}
GENOMES = ("lambda_virus.fa", "biopython/NC_000932.gb", "biopython/NC_005816.fna", "biopython/NC_001802.fna")
PROTEINS = ("biopython/NC_000932.faa", "esm_some_proteins.fasta", "esm_few_proteins.fasta")


def files() -> dict[str, str]:
    """The texts of the archive of sequences, by name."""
    found = {}
    with tarfile.open(data("bio", "bio.tar.xz")) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isfile() and name in GENOMES + PROTEINS and (stream := archive.extractfile(member)):
                found[name] = io.TextIOWrapper(stream, encoding="ascii", errors="replace").read()
    return found


def records(text: str) -> list[str]:
    """The sequences of a FASTA file, or the one of a GenBank file."""
    if text.startswith("LOCUS"):
        return [re.sub(r"[^a-zA-Z]", "", text[text.index("ORIGIN") + 6 : text.rindex("//")]).upper()]
    return ["".join(part.split("\n")[1:]).upper() for part in text.split(">")[1:]]


def pieces(task: str) -> tuple[list[str], list[str]]:
    """(training, held-out) sequences."""
    read = files()
    train: list[str] = []
    held: list[str] = []
    if task == "proteins":
        every = sorted({one[:LENGTH] for name in PROTEINS for one in records(read[name]) if len(one) >= 30})
        return [one for n, one in enumerate(every) if n % 10], every[::10]
    for name in GENOMES:
        for whole in records(read[name]):
            cut = [whole[start : start + LENGTH] for start in range(0, len(whole) - LENGTH + 1, LENGTH)]
            last = max(1, len(cut) // 10)
            train += cut[:-last]
            held += cut[-last:]
    return train, held


def make(vocab_size: int, seed: int) -> Any:
    """A decoder of the default family with random weights."""
    import torch

    from bloomery.models.config import ModelConfig
    from bloomery.models.decoder import Decoder

    torch.manual_seed(seed)
    return Decoder(
        ModelConfig(
            model_type="qwen3",
            vocab_size=vocab_size,
            hidden_size=HIDDEN,
            intermediate_size=4 * HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            head_dim=HIDDEN // HEADS,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
        )
    )


def operations(model: Any, tokens: float) -> float:
    """Of a training step on one row of so many tokens: 6 for each weight that multiplies (the tied head among them),
    12 for each layer, channel and pair of positions of attention, of which half are masked."""
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.dim() == 2)
    return tokens * (6 * weights + 6 * LAYERS * HIDDEN * tokens)


def batch(rows: list[list[int]], bos: int) -> tuple[Any, Any]:
    """(ids, labels): BOS and all but the last token; the tokens, -100 beyond a row's end."""
    import torch

    width = max(map(len, rows))
    ids, labels = torch.zeros(len(rows), width, dtype=torch.long), torch.full((len(rows), width), -100)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor([bos, *row[:-1]])
        labels[place, : len(row)] = torch.tensor(row)
    return ids, labels


def one(home: str, task: str, name: str, seed: int, petaflops: float) -> dict[str, Any]:
    """One model trained and scored on what is held out."""
    import torch
    import torch.nn.functional as F

    from bloomery.tokenizer.train import TokenizerConfig, learn

    train, held = pieces(task)
    tokenizer = learn(train, TokenizerConfig(**ARMS[task][name]))
    rows, tests = ([tokenizer.encode(text, add_special_tokens=False).ids for text in part] for part in (train, held))
    model = make(tokenizer.get_vocab_size(), seed)
    mean = sum(map(len, rows)) / len(rows)
    steps = max(1, round(petaflops * 1e15 / operations(model, mean) / ROWS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1)
    rng = np.random.default_rng(seed)
    model.train()
    for step in range(steps):
        left = (steps - step) / steps
        scale = min(1.0, (step + 1) / max(1.0, WARM * steps), left / 0.5 if left < 0.5 else 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * scale
        ids, labels = batch([rows[place] for place in rng.integers(0, len(rows), ROWS)], 0)
        loss = F.cross_entropy(model(ids).float().flatten(0, 1), labels.flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    nats = 0.0
    with torch.inference_mode():
        for start in range(0, len(tests), ROWS):
            ids, labels = batch(tests[start : start + ROWS], 0)
            nats += float(F.cross_entropy(model(ids).float().flatten(0, 1), labels.flatten(), reduction="sum"))
    letters = sum(map(len, held))
    found = {
        "task": task,
        "arm": name,
        "seed": seed,
        "bits": nats / math.log(2) / letters,
        "letters_per_token": letters / sum(map(len, tests)),
        "epochs": steps * ROWS / len(rows),
        "steps": steps,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocab_size": tokenizer.get_vocab_size(),
    }
    print(task, name, seed, f"{found['bits']:.4f} bits, {found['epochs']:.1f} epochs", flush=True)
    return found


def markov(task: str) -> dict[str, float]:
    """Bits a letter of Witten-Bell models, by how many letters they look back on."""
    from bloomery.evaluate.ngram import END, WittenBell, symbols

    train, held = (symbols(text.encode() for text in part) for part in pieces(task))
    letters = held[1:] != END
    found = {}
    for order in range(1, 8):
        bits = -np.log2(WittenBell(train, order=order).probabilities(held))
        found[str(order - 1)] = float(bits[letters].mean())
    return found


def main() -> None:
    """Train, score, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="dna,proteins")
    parser.add_argument("--petaflops", type=float, default=0.0008, help="arithmetic of every arm")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    tasks = options.tasks.split(",")
    with scratch_home(options.home) as home:
        arms = [
            (home, task, name, seed, options.petaflops)
            for seed in range(options.seeds)
            for task in tasks
            for name in ARMS[task]
        ]
        found = run_arms(one, arms, jobs=options.jobs, settings={"length": LENGTH, "hidden": HIDDEN, "layers": LAYERS})
    result: dict[str, Any] = {}
    for task in tasks:
        train, held = pieces(task)
        result[task] = {
            "letters": {"train": sum(map(len, train)), "held_out": sum(map(len, held))},
            "uniform": math.log2(ALPHABET[task]),
            "markov": markov(task),
            "arms": {},
        }
        print(f"{task}: uniform {result[task]['uniform']:.3f}", end="; ")
        print("Markov", ", ".join(f"order {order} {bits:.3f}" for order, bits in result[task]["markov"].items()))
        for name in ARMS[task]:
            mine = [arm for arm in found if (arm["task"], arm["arm"]) == (task, name)]
            bits = over_seeds([arm["bits"] for arm in mine])
            same = {key: mine[0][key] for key in ("letters_per_token", "epochs", "steps", "parameters", "vocab_size")}
            result[task]["arms"][name] = {"bits": bits, **same}
            print(f"{task} {name}: {shown(bits, '.3f')} bits, {same['letters_per_token']:.2f} letters a token")
    if options.seeds == len(SEEDS):
        settings = {"petaflops": options.petaflops, "hidden": HIDDEN, "layers": LAYERS, "length": LENGTH}
        keep("dna_tokenizers", {"seeds": options.seeds, **settings, "tasks": result, "arms": found})


if __name__ == "__main__":
    main()
