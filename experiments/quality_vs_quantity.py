"""Quality or quantity: the same model on a little that rules and a classifier kept, or on all of it as it came.

    python experiments/quality_vs_quantity.py [--steps 150,600] [--seeds N] [--jobs 2] [--home FOLDER]

The pool is web text: 477 pages (trafilatura's evaluation set), 300 pages of C4, and a third of the 499 web texts that
people labelled. Arms of equal computation (steps of equal batches), a Llama of two layers:

    raw-large        all of it: of a page everything that it shows, menus and notices too
    filtered-small   the same pool, extracted, held to rules (Gopher, FineWeb), to English, and to a classifier that
                     was fitted on another third of the labelled texts
    raw-small        a random part of raw-large with as many bytes as filtered-small: what size alone does

Small pools are read again and again, at the larger number of steps many times. Scored in bits per byte on the last
third: those of it that people called good, and on every third of WikiText-2's validation articles, prose of
which no arm has any.
What shares a run of 13 words with a scored text is out of every arm; the vocabulary is raw-large's for all. What this
does not know: other sizes, of the model or of the pool.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from common import SEEDS, data, keep, over_seeds, run_arms, scratch_home, shown, write_jsonl

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact

ARMS = ("raw-large", "filtered-small", "raw-small")
NET: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
VOCABULARY, CONTEXT, BATCH = 4096, 192, 8
STEPS = (150, 600)
RUN_WORDS = 13
LEAST_GOOD = 0.5  # the probability of "good" that the classifier must give
PROFILES = ("gopher", "fineweb")


def packed_lines(*parts: str) -> list[dict[str, Any]]:
    """The objects of a packed JSONL file."""
    return [json.loads(line) for line in lzma.decompress(data(*parts).read_bytes()).decode().splitlines()]


def thirds(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], ...]:
    """The labelled texts in three, at random, the same in every run: for the classifier, for the pool, to score."""
    order = np.random.default_rng(11).permutation(len(rows))
    return tuple([rows[i] for i in part] for part in np.array_split(order, 3))


def articles() -> list[str]:
    """WikiText-2's validation articles, with the spaces and marks of its tokens taken back."""
    text = lzma.decompress(data("text", "wikitext2_valid.txt.xz").read_bytes()).decode()
    text = re.sub(r" @(.)@ ", r"\1", text).replace("<unk>", "it")
    text = re.sub(r" ([.,;:!?)\]%])", r"\1", re.sub(r"([(\[]) ", r"\1", text))
    return [part.strip() for part in re.split(r"\n(?= = [^=])", text) if len(part) > 1000]


def unpack_pages(folder: Path) -> Path:
    """The pages as files, as a crawl leaves them."""
    folder.mkdir(exist_ok=True)
    with tarfile.open(data("web", "trafilatura", "eval_html_lt110k.tar.xz")) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                (folder / Path(member.name).name).write_bytes(stream.read())
    return folder


def everything_shown(folder: Path) -> Iterator[str]:
    """All text of each page, nothing taken for its main part."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    for path in sorted(folder.iterdir()):
        page = path.read_bytes()
        yield extract_plain_text(bytes_to_str(page, detect_encoding(page, from_html_meta=True)), main_content=False)


def without(texts: Iterable[str], scored: Iterable[str]) -> list[str]:
    """The texts that share no run of words with a scored one; blank ones and copies left out."""
    import tempfile

    from bloomery.corpus.decontaminate import HeldOutRuns, RunHasher, overlaps
    from bloomery.corpus.document import Document

    hasher = RunHasher(RUN_WORDS)
    with tempfile.TemporaryDirectory() as folder:
        runs = HeldOutRuns(Path(folder), hasher)
        for text in scored:
            runs.add(text)
        runs.seal()
        documents = (Document.of(text, "") for text in dict.fromkeys(texts) if text.strip())
        return [one.text for one, reason, _ in overlaps(documents, hasher, {"scored": runs}) if not reason]


def filtered(sources: list[Path], classifier: Path, home: str) -> tuple[list[str], dict[str, int]]:
    """What the rules and the classifier leave of the sources, and what they dropped, by reason."""
    from collections import Counter

    from bloomery.corpus import CurateConfig, FilterConfig, curate, read_documents
    from bloomery.corpus.split import SPLITS

    dropped: Counter[str] = Counter()
    for number, profile in enumerate(PROFILES):
        last = number == len(PROFILES) - 1
        more: dict[str, Any] = {"classifier": str(classifier), "rules": {"classifier": LEAST_GOOD}} if last else {}
        rules = FilterConfig(profile=profile, identify=True, **more)
        config = CurateConfig(sources=tuple(map(str, sources)), filter=rules, decontaminate_words=0)
        corpus = curate(config=config, workspace=home)
        dropped.update(corpus.metrics["dropped"])
        documents = [one for split in SPLITS for one in read_documents(corpus, split)]
        kept = [one.text for one in documents if one.metadata.get("language") == "en"]
        dropped["language"] += len(documents) - len(kept)
        sources = [write_jsonl(Path(home) / f"{profile}.jsonl", ({"text": text} for text in kept))]
    return kept, dict(dropped)


def pools(home: str) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, Any]]:
    """(texts by arm, texts to score by set, what was done)."""
    from bloomery.corpus.classifier import fit_classifier

    labelled, pooled, held = thirds(packed_lines("web", "dclm_quality_majority.jsonl.xz"))
    score = {"good web": [row["text"] for row in held if row["label"] == 1], "articles": articles()[::3]}
    scored = [text for texts in score.values() for text in texts]
    pages = unpack_pages(Path(home) / "pages")
    c4 = [row["text"] for row in packed_lines("text", "c4_demo.jsonl.xz")]
    texts = [*c4, *(row["text"] for row in pooled)]
    raw = without([*texts, *everything_shown(pages)], scored)
    classifier = fit_classifier([row["text"] for row in labelled], [row["label"] == 1 for row in labelled])
    classifier.save(Path(home) / "classifier")
    lines = write_jsonl(Path(home) / "lines.jsonl", ({"text": text} for text in texts))
    kept, dropped = filtered([lines, pages], Path(home) / "classifier", home)
    small = without(kept, scored)
    told = {"dropped": dropped, "classifier": classifier.measured, "scored": {k: len(v) for k, v in score.items()}}
    return {"raw-large": raw, "filtered-small": small, "raw-small": part_of(raw, _bytes(small))}, score, told


def _bytes(texts: list[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def part_of(texts: list[str], size: int) -> list[str]:
    """Texts at random until there are about so many bytes."""
    part: list[str] = []
    for i in np.random.default_rng(12).permutation(len(texts)):
        if size <= 0:
            break
        part.append(texts[i])
        size -= len(texts[i].encode())
    return part


def tokens_of(home: str, arm: str, texts: list[str], tokenizer: Artifact | None) -> tuple[Artifact, Artifact]:
    """(tokens, tokenizer) of an arm's texts; a tokenizer is trained where none is given."""
    from bloomery.corpus import CurateConfig, curate
    from bloomery.tokenizer import TokenizeConfig, TokenizerConfig, tokenize, train_tokenizer

    path = write_jsonl(Path(home) / f"{arm}.jsonl", ({"text": text} for text in texts))
    settings = CurateConfig(
        sources=(str(path),), validation_fraction=0.01, test_fraction=0.0, decontaminate_words=0, cut_characters=4000
    )
    corpus = curate(config=settings, workspace=home)
    tokenizer = tokenizer or train_tokenizer(corpus, config=TokenizerConfig(vocab_size=VOCABULARY), workspace=home)
    return tokenize(corpus, tokenizer, config=TokenizeConfig(context_length=CONTEXT), workspace=home), tokenizer


def one(home: str, arm: str, tokens: str, tokenizer: str, seed: int, steps: int, score: str) -> dict[str, Any]:
    """Train one model; bits per byte of each set of texts that is scored."""
    import torch

    from bloomery.core.run import Run
    from bloomery.core.stage import StageInputs
    from bloomery.core.workspace import Workspace
    from bloomery.energy import open_meter
    from bloomery.engine import LanguageModel
    from bloomery.evaluate import bits_per_byte
    from bloomery.tokenizer import PackedRows, Tokenizer, TokenShards
    from bloomery.training.building import NetConfig, build
    from bloomery.training.causal import CausalObjective
    from bloomery.training.fit import FitConfig, fit

    workspace = Workspace(home)
    codec = Tokenizer.load(workspace.find(tokenizer).path)
    shards = workspace.find(tokens)
    torch.manual_seed(seed)
    model = build("causal", NetConfig(family="llama", **NET), codec, context_length=CONTEXT)
    rows = PackedRows(TokenShards(shards, "train"), context_length=CONTEXT, seed=seed)
    objective = CausalObjective(model, rows, TokenShards(shards, "validation"), validation_rows=16)  # type: ignore[arg-type]
    config = FitConfig(
        steps=steps,
        batch_rows=BATCH,
        seed=seed,
        validations=1,
        validation_batches=2,
        precision="float32",
        device="cpu",
        checkpoint_seconds=1e9,
    )
    inputs = StageInputs(stage="experiment-quality", config={"arm": arm, "steps": steps}, seed=seed)
    with Run(workspace, inputs, meter=open_meter()) as run:
        seconds = fit(run, objective, config).metrics["training_seconds"]
    epochs = rows.epoch
    scored: dict[str, list[str]] = json.loads(Path(score).read_text(encoding="utf-8"))
    loaded = LanguageModel(model, codec, name=arm)  # type: ignore[arg-type]
    bits = {name: bits_per_byte(loaded, texts).bits_per_byte for name, texts in scored.items()}
    print(arm, f"seed {seed}, {steps} steps:", {name: round(value, 3) for name, value in bits.items()}, flush=True)
    return {"arm": arm, "seed": seed, "steps": steps, "bits": bits, "epochs": epochs, "seconds": seconds}


def summary(found: list[dict[str, Any]], steps: int) -> dict[str, Any]:
    """By arm: bits per byte of each set, and how much less than raw-large's, seed by seed."""
    mine = {arm: [one for one in found if (one["arm"], one["steps"]) == (arm, steps)] for arm in ARMS}
    table = {}
    for arm, ones in mine.items():
        table[arm] = {"epochs": ones[0]["epochs"], "bits": {}, "less": {}}
        for name in ones[0]["bits"]:
            bits = [each["bits"][name] for each in ones]
            large = [each["bits"][name] for each in mine["raw-large"]]
            table[arm]["bits"][name] = over_seeds(bits)
            table[arm]["less"][name] = over_seeds([b - a for a, b in zip(bits, large, strict=True)])
    return table


def main() -> None:
    """Filter, train, score, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(map(str, STEPS)), help="numbers of steps, each trained anew")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    lengths = [int(steps) for steps in options.steps.split(",")]
    with scratch_home(options.home) as home:
        texts, score, told = pools(home)
        scored = Path(home) / "scored.json"
        scored.write_text(json.dumps(score, ensure_ascii=False), encoding="utf-8")
        sizes = {arm: {"documents": len(texts[arm]), "bytes": _bytes(texts[arm])} for arm in ARMS}
        print(sizes, told, flush=True)
        tokens, tokenizer = {}, None
        for arm in ARMS:
            tokens[arm], tokenizer = tokens_of(home, arm, texts[arm], tokenizer)
        assert tokenizer is not None
        arms = [
            (home, arm, tokens[arm].id, tokenizer.id, seed, steps, str(scored))
            for steps in sorted(lengths, reverse=True)
            for seed in range(options.seeds)
            for arm in ARMS
        ]
        found = run_arms(one, arms, jobs=options.jobs, settings=[NET, VOCABULARY, CONTEXT, BATCH])
    table = {str(steps): summary(found, steps) for steps in lengths}
    for steps, by_arm in table.items():
        for arm, row in by_arm.items():
            bits = {name: shown(value, ".3f") for name, value in row["bits"].items()}
            print(f"{steps} steps, {arm}, {row['epochs']} epochs:", bits)
    if options.seeds == len(SEEDS) and options.steps == parser.get_default("steps"):
        settings = {"net": NET, "vocabulary": VOCABULARY, "context": CONTEXT, "batch": BATCH, "seeds": options.seeds}
        keep("quality", {**settings, **told, "sizes": sizes, "table": table, "arms": found})


if __name__ == "__main__":
    main()
