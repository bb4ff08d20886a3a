"""Pictures: what small contrastive models and captioners learn from pictures and their captions.

    python experiments/pictures.py [--parts emoji,shapes,cifar,captions] [--seeds N] [--scale S]

emoji     CLIP on EmojiOne pictures with names and keywords, flags left out. A fifth of the names, with all their skin
          tones, is held out: which of the held-out names belongs to a held-out picture, and which category. Beside it:
          the same model on shuffled captions, and the nearest training pictures by their pixels.
shapes    CLIP on drawn shapes: shape x colour x position, a sixth of the combinations held out: which of all
          combinations is drawn. Beside it: shuffled captions.
cifar     CLIP on CIFAR-10 photos of eight classes with their names as captions; the two others (cat, truck) are never
          shown with theirs. Zero-shot on photos that are held out: the eight among eight, the two among each other.
captions  A captioner (image encoder, projector, decoder) on the drawn shapes against its blind twin: nats per token and
          captions that are exactly right, for combinations that are held out.

Sizes are a toy's beside CLIP's 400 million pairs: a few hundred thousand parameters and some ten thousand pairs. What
this does not know: natural captions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import SEEDS, data, keep, over_seeds, run_arms, scratch_home, shown

SHAPES, PLACES = ("circle", "square", "triangle", "cross"), ("left", "middle", "right", "top", "bottom")
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 180, 60),
    "blue": (50, 70, 220),
    "yellow": (230, 210, 40),
    "purple": (150, 50, 180),
    "orange": (240, 140, 30),
}
WITHHELD = ("cat", "truck")
PHOTO_TEMPLATES = ("a photo of a {}", "a picture of a {}", "a small {}", "the {}")
EMOJI_TEMPLATES = ("{}", "a picture of {}", "an icon of {}")
SIZES = {"emoji": (64, 2, 8), "shapes": (48, 2, 8), "cifar": (64, 2, 4), "captions": (64, 2, 8)}
"""Width, layers and patch size of each part."""
STEPS = {"emoji": 400, "shapes": 400, "cifar": 400, "captions": 300}
BATCH = {"emoji": 96, "shapes": 96, "cifar": 96, "captions": 48}
Pairs = list[tuple[np.ndarray, str]]


# What is learnt from.


def unpacked(name: str, home: str) -> Path:
    """A tar of the data in a folder of its own, once."""
    folder = Path(home) / name
    if not folder.is_dir():
        part = folder.with_suffix(".partial")
        with tarfile.open(data("image_text", f"{name}.tar.xz")) as tar:
            tar.extractall(part, filter="data")
        part.rename(folder)
    return folder


def emoji(home: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, held out): picture, caption, name and category; skin tones stay with their name."""
    from bloomery.corpus.picture_file import open_image, square

    folder = unpacked("emojione_png64", home)
    rows = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["category"] not in ("flags", "regional", "modifier")]
    bases = sorted({base_name(row["name"]) for row in rows})
    held = set(np.random.default_rng(0).permutation(bases)[: len(bases) // 5].tolist())
    train, test = [], []
    for row in rows:
        picture = square(open_image(folder / "png" / row["file"]), 32)
        words = " ".join(dict.fromkeys([row["name"], *row["keywords"]]))
        one = {"image": picture, "caption": words, "name": row["name"], "category": row["category"]}
        if base_name(row["name"]) not in held:
            train.append(one)
        elif base_name(row["name"]) == row["name"]:
            test.append(one)
    return train, test


def base_name(name: str) -> str:
    """A name without its skin tone."""
    return name.split(" tone ")[0]


def drawn(shape: str, colour: str, place: str, rng: np.random.Generator) -> np.ndarray:
    """One shape, uint8 (32, 32, 3), its size, place and background a little different every time."""
    picture = np.full((32, 32, 3), rng.integers(200, 256), dtype=np.int64)
    centre = {"left": (16, 8), "right": (16, 24), "top": (8, 16), "bottom": (24, 16), "middle": (16, 16)}[place]
    y, x = np.mgrid[:32, :32]
    y, x, r = y - centre[0] - rng.integers(-2, 3), x - centre[1] - rng.integers(-2, 3), rng.integers(4, 7)
    inside = {
        "circle": x * x + y * y <= r * r,
        "square": (abs(x) <= r - 1) & (abs(y) <= r - 1),
        "triangle": (y <= r - 1) & (y >= 2 * abs(x) - r),
        "cross": ((abs(x) <= 1) & (abs(y) <= r)) | ((abs(y) <= 1) & (abs(x) <= r)),
    }[shape]
    picture[inside] = COLOURS[colour]
    return np.clip(picture + rng.integers(-12, 13, picture.shape), 0, 255).astype(np.uint8)


def combinations() -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """(seen, held out): every shape, colour and place is seen, but not every combination."""
    every = list(itertools.product(SHAPES, COLOURS, PLACES))
    order = np.random.default_rng(1).permutation(len(every))
    held = {every[i] for i in order[: len(every) // 6]}
    return [one for one in every if one not in held], [one for one in every if one in held]


def shape_caption(combination: tuple[str, str, str]) -> str:
    """How a combination is said."""
    shape, colour, place = combination
    return f"a {colour} {shape} at the {place}"


def shape_pairs(which: Sequence[tuple[str, str, str]], each: int, seed: int) -> Pairs:
    """`each` drawings of every combination."""
    rng = np.random.default_rng([seed, 5])
    return [(drawn(*one, rng), shape_caption(one)) for one in which for _ in range(each)]


def photos(home: str, each: int) -> dict[str, list[np.ndarray]]:
    """`each` photos of every class, 32 x 32."""
    from bloomery.corpus.picture_file import open_image, square

    folder = unpacked("cifar10_train_jpg", home) / "train"
    found = {}
    for place in sorted(folder.iterdir()):
        files = sorted(place.glob("*.jpg"))[:each]
        found[place.name] = [square(open_image(file), 32) for file in files]
    return found


# Training and scoring.


def tokenizer_of(captions: Sequence[str], folder: Path, *, images: bool = False) -> Any:
    """A small tokenizer of the captions."""
    from bloomery.tokenizer import Tokenizer, TokenizerConfig
    from bloomery.tokenizer.train import learn, write_tokenizer

    folder.mkdir(parents=True, exist_ok=True)
    config = TokenizerConfig(vocab_size=1500, encloses=not images, images=images)
    write_tokenizer(learn(sorted(set(captions)), config), folder)
    return Tokenizer.load(folder)


def fitted(home: str, part: str, kind: str, seed: int, steps: int, objective: Any) -> dict[str, Any]:
    """Train within a run of the workspace; the figures."""
    from bloomery.core.run import Run
    from bloomery.core.stage import StageInputs
    from bloomery.core.workspace import Workspace
    from bloomery.energy import open_meter
    from bloomery.training.fit import FitConfig, fit

    config = FitConfig(
        steps=steps, batch_rows=BATCH[part], seed=seed, precision="float32", device="cpu", checkpoint_seconds=1e9
    )
    inputs = StageInputs(stage=f"experiment-pictures-{part}", config={"kind": kind, "steps": steps}, seed=seed)
    with Run(Workspace(home), inputs, meter=open_meter()) as run:
        return fit(run, objective, config).metrics


def clip(
    home: str, part: str, kind: str, seed: int, steps: int, pairs: Pairs, change: Callable[..., Any] | None
) -> tuple[Any, dict[str, Any]]:
    """A CLIP trained on pairs, as a model that names what it sees; with the loss of its first batches."""
    import torch

    from bloomery.engine.image_text import ImageTextModel
    from bloomery.training.building import NetConfig
    from bloomery.training.contrastive import CaptionedPicture, ContrastiveObjective
    from bloomery.training.loader import ExampleLoader
    from bloomery.training.picture_building import build_seeing, processor
    from bloomery.training.pictures import PictureReader

    tokenizer = tokenizer_of([text for _, text in pairs], Path(home) / f"tokenizer-{part}-{kind}-{seed}")
    captions = [text for _, text in pairs]
    if kind == "shuffled":
        order = np.random.default_rng([seed, 9]).permutation(len(captions))
        captions = [captions[i] for i in order]
    examples = [
        CaptionedPicture(picture, tokenizer.encode_with_special(text, max_length=32)[0])
        for (picture, _), text in zip(pairs, captions, strict=True)
    ]
    width, layers, patch = SIZES[part]
    torch.manual_seed(seed)
    net = NetConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=4, image_size=32, patch_size=patch)
    model = build_seeing("contrastive", net, tokenizer, context_length=32)
    loader = ExampleLoader(examples, [], rows=BATCH[part], seed=seed)
    objective = ContrastiveObjective(model, loader, PictureReader(change=change), seed=seed)  # type: ignore[arg-type]
    start = loss_at_start(objective, examples, BATCH[part])
    metrics = fitted(home, part, kind, seed, steps, objective)
    named = ImageTextModel(model, tokenizer, processor(32), name=part)  # type: ignore[arg-type]
    return named, {"loss_at_start": start, "parameters": metrics["parameters"]}


def loss_at_start(objective: Any, examples: Sequence[Any], rows: int) -> float:
    """Nats a pair of up to `rows` pairs with different captions, in ln(rows): 1 where nothing is known."""
    import torch

    different = list({tuple(one.input_ids): one for one in examples}.values())[:rows]
    batch = objective.collate(different, np.random.default_rng(0), training=False)
    with torch.no_grad():
        total = objective.loss({name: torch.as_tensor(value) for name, value in batch.arrays.items()})
    return float(total) / len(different) / math.log(len(different))


def ranks(scores: np.ndarray) -> dict[str, float]:
    """Where the right one, that of the same number, stands among all: scores (N, N)."""
    place = (scores > np.diag(scores)[:, None]).sum(1)
    ties = (scores == np.diag(scores)[:, None]).sum(1) - 1
    middle = place + ties / 2
    reciprocal = 1 / (middle + 1)
    return {"first": float((middle < 1).mean()), "in_five": float((middle < 5).mean()), "mrr": float(reciprocal.mean())}


def chance_of(part: str, home: str) -> dict[str, float]:
    """What a guess would give; nothing where that is not a matter of counting."""
    if part == "shapes":
        count = 1 / len(SHAPES) / len(COLOURS) / len(PLACES)
        return {"seen": count, "held_out": count}
    if part == "cifar":
        return {"eight": 1 / 8, "withheld_two": 1 / 2, "all_ten": 1 / 10}
    if part == "emoji":
        _, test = emoji(home)
        count, names = len(test), len({row["category"] for row in test})
        mrr = sum(1 / place for place in range(1, count + 1)) / count
        return {"first": 1 / count, "in_five": 5 / count, "mrr": mrr, "category": 1 / names}
    return {}


def emoji_arm(home: str, kind: str, seed: int, scale: float) -> dict[str, Any]:
    """One emoji model, or the control by pixels."""
    from bloomery.training.augment import Augment, AugmentConfig

    train, test = emoji(home)
    names, truth = sorted({row["category"] for row in test}), [row["category"] for row in test]
    if kind == "pixels":
        found = pixel_neighbours(train, test, names)
        return {"part": "emoji", "kind": kind, "seed": seed, **found}
    change = Augment(AugmentConfig(least_area=0.7, shift=2, mirror=True, light=0.2))
    pairs = [(row["image"], row["caption"]) for row in train]
    model, costs = clip(home, "emoji", kind, seed, round(STEPS["emoji"] * scale), pairs, change)
    seen = model.embed_images([row["image"] for row in test])
    scores = seen @ model.embed_texts([row["caption"] for row in test]).T
    said = (seen @ model.class_vectors(names, EMOJI_TEMPLATES).T).argmax(1)
    right = float(np.mean([names[i] == one for i, one in zip(said, truth, strict=True)]))
    return {"part": "emoji", "kind": kind, "seed": seed, **ranks(scores), "category": right, "test": len(test), **costs}


def pixel_neighbours(train: list[dict[str, Any]], test: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """The five training pictures nearest in pixels: their captions' words rank the names, their categories vote."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    flat = [np.stack([row["image"].ravel() for row in rows]).astype(np.float32) for rows in (train, test)]
    near = np.argsort(((flat[1][:, None, ::7] - flat[0][None, :, ::7]) ** 2).sum(-1), axis=1)[:, :5]
    words = TfidfVectorizer().fit([row["caption"] for row in train + test])
    known, asked = (words.transform([row["caption"] for row in rows]) for rows in (train, test))
    scores = np.stack([np.asarray((known[row] @ asked.T).mean(0)).ravel() for row in near])
    votes = [[train[i]["category"] for i in row] for row in near]
    said = [max(names, key=row.count) for row in votes]
    right = float(np.mean([a == row["category"] for a, row in zip(said, test, strict=True)]))
    return {**ranks(scores), "category": right, "test": len(test)}


def shapes_arm(home: str, kind: str, seed: int, scale: float) -> dict[str, Any]:
    """One model of drawn shapes: the right one of all combinations, seen and held out."""
    seen, held = combinations()
    model, costs = clip(home, "shapes", kind, seed, round(STEPS["shapes"] * scale), shape_pairs(seen, 60, seed), None)
    every = seen + held
    texts = model.embed_texts([shape_caption(one) for one in every])
    figures = {}
    for name, which in (("seen", seen), ("held_out", held)):
        pairs = shape_pairs(which, 8, seed + 1000)
        said = (model.embed_images([picture for picture, _ in pairs]) @ texts.T).argmax(1)
        figures[name] = float(np.mean([shape_caption(every[i]) == c for i, (_, c) in zip(said, pairs, strict=True)]))
    return {"part": "shapes", "kind": kind, "seed": seed, **figures, "of": len(every), **costs}


def cifar_arm(home: str, kind: str, seed: int, scale: float) -> dict[str, Any]:
    """One model of photos, two classes without captions."""
    from bloomery.training.augment import Augment, AugmentConfig

    found, rng = photos(home, 2200), np.random.default_rng([seed, 3])
    named = [name for name in found if name not in WITHHELD]
    pairs = [
        (picture, PHOTO_TEMPLATES[rng.integers(len(PHOTO_TEMPLATES))].format(name))
        for name in named
        for picture in found[name][:2000]
    ]
    change = Augment(AugmentConfig(shift=3, mirror=True))
    model, costs = clip(home, "cifar", kind, seed, round(STEPS["cifar"] * scale), pairs, change)
    figures = {}
    for key, names in (("eight", named), ("withheld_two", list(WITHHELD)), ("all_ten", list(found))):
        classes = model.class_vectors(names, PHOTO_TEMPLATES)
        right = []
        for number, name in enumerate(names):
            vectors = model.embed_images(found[name][2000:])
            right.append(float(((vectors @ classes.T).argmax(1) == number).mean()))
        figures[key] = float(np.mean(right))
    return {"part": "cifar", "kind": kind, "seed": seed, **figures, **costs}


def captions_arm(home: str, kind: str, seed: int, scale: float) -> dict[str, Any]:
    """One captioner, seeing or blind, scored on combinations that are held out."""
    import torch

    from bloomery.engine.vision_language_model import VisionLanguageModel
    from bloomery.training.building import NetConfig
    from bloomery.training.captions import CaptionObjective, PictureText
    from bloomery.training.loader import ExampleLoader
    from bloomery.training.picture_building import build_seeing, processor
    from bloomery.training.pictures import PictureReader

    seen, held = combinations()
    learn, score = shape_pairs(seen, 60, seed), shape_pairs(held, 4, seed + 1000)
    tokenizer = tokenizer_of([c for _, c in learn], Path(home) / f"tokenizer-captions-{kind}-{seed}", images=True)
    texts = [[PictureText(p, [], tokenizer.encode(c)) for p, c in pairs] for pairs in (learn, score)]
    width, layers, patch = SIZES["captions"]
    torch.manual_seed(seed)
    net = NetConfig(hidden_size=width, num_hidden_layers=layers, num_attention_heads=4, image_size=32, patch_size=patch)
    model = build_seeing("captions", net, tokenizer, context_length=24)
    loader = ExampleLoader(texts[0], texts[1], rows=BATCH["captions"], seed=seed)
    objective = CaptionObjective(model, loader, PictureReader(), seed=seed, blind=kind == "blind")  # type: ignore[arg-type]
    metrics = fitted(home, "captions", kind, seed, round(STEPS["captions"] * scale), objective)
    writer = VisionLanguageModel(model, tokenizer, processor(32), name="captions")  # type: ignore[arg-type]
    prompt = [tokenizer.bos_id, tokenizer.image_id]
    grey = np.full((32, 32, 3), 128, dtype=np.uint8)
    right = [
        writer.generate(prompt, image=grey if kind == "blind" else p, max_new_tokens=12, temperature=0).text == c
        for p, c in score
    ]
    return {
        "part": "captions",
        "kind": kind,
        "seed": seed,
        "nats_per_token": metrics["validation_nats_per_token"],
        "exactly_right": float(np.mean(right)),
        "parameters": metrics["parameters"],
    }


ARMS: dict[str, tuple[Callable[..., dict[str, Any]], tuple[str, ...]]] = {
    "emoji": (emoji_arm, ("CLIP", "shuffled", "pixels")),
    "shapes": (shapes_arm, ("CLIP", "shuffled")),
    "cifar": (cifar_arm, ("CLIP",)),
    "captions": (captions_arm, ("seeing", "blind")),
}


def arm(home: str, part: str, kind: str, seed: int, scale: float) -> dict[str, Any]:
    """One arm of one part."""
    found = ARMS[part][0](home, kind, seed, scale)
    print({key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(ARMS))
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies every number of steps")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time, of one thread each")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    parts = options.parts.split(",")
    with scratch_home(options.home) as home:
        if "emoji" in parts:
            unpacked("emojione_png64", home)
        if "cifar" in parts:
            unpacked("cifar10_train_jpg", home)
        arms = [
            (home, part, kind, seed, options.scale)
            for seed in range(options.seeds)
            for part in parts
            for kind in ARMS[part][1]
        ]
        found = run_arms(arm, arms, jobs=options.jobs, settings=[SIZES, STEPS, BATCH])
        chance = {part: chance_of(part, home) for part in parts}
    table: dict[str, Any] = {}
    for part, kind in dict.fromkeys((one["part"], one["kind"]) for one in found):
        mine = [one for one in found if (one["part"], one["kind"]) == (part, kind)]
        figures = [key for key, value in mine[0].items() if isinstance(value, float)]
        table.setdefault(part, {})[kind] = {key: over_seeds([one[key] for one in mine]) for key in figures}
        print(part, kind, *(f"{key} {shown(value, '.3f')}" for key, value in table[part][kind].items()))
    if options.parts == parser.get_default("parts") and options.scale == 1:
        sizes = {"sizes": SIZES, "steps": STEPS, "batch": BATCH}
        keep("pictures", {**sizes, "seeds": options.seeds, "arms": found, "table": table, "chance": chance})


if __name__ == "__main__":
    main()
