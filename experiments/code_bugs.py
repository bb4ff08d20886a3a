"""Planted bugs: a masked model of code says where in a function one token was changed.

    python experiments/code_bugs.py [--steps N] [--seeds N] [--functions N]

Trains a masked encoder and a causal model of equal size (2 layers, 64 wide) on functions of the standard library,
changes one operator, constant or name in each of some functions from files that were held out, and ranks the tokens of
the function by how little the model expects them: the masked model with each token alone blanked, the causal one from
what came before. The changed function still compiles. Beside them: how rare a token is, and chance. What this does not
know: bugs that people make, nor what larger models or more code would reach.
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import io
import keyword
import textwrap
import tokenize
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import SEEDS, keep, over_seeds, run_arms, scratch_home, shown, stdlib_sources, write_jsonl

NET: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
WINDOW = 8
"""Tokens that the encoder's first layer sees."""
VOCABULARY, CONTEXT, BATCH, HELD_OUT = 2000, 128, 8, 0.1
SWAPS = {
    "==": "!=",
    "!=": "==",
    "<": ">",
    ">": "<",
    "<=": ">=",
    ">=": "<=",
    "+": "-",
    "-": "+",
    "and": "or",
    "or": "and",
    "True": "False",
    "False": "True",
    "is": "==",
    "in": "not in",
    "0": "1",
    "1": "0",
}


@functools.lru_cache(maxsize=1)
def functions() -> tuple[list[str], list[str]]:
    """(training, held out): functions of 3 to 25 lines; those of one file are on one side."""
    sides: tuple[list[str], list[str]] = ([], [])
    for source in stdlib_sources():
        digest = hashlib.sha256(source.encode()).digest()
        held = int.from_bytes(digest[:8], "big") / 2**64 < HELD_OUT
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                text = textwrap.dedent(ast.get_source_segment(source, node, padded=True) or "")
                if 3 <= text.count("\n") + 1 <= 25:
                    sides[held].append(text)
    return sides


def planted(function: str, rng: np.random.Generator) -> tuple[str, int, int] | None:
    """The function with one token changed, and where (characters from and to); None where there is none to change."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(function).readline))
    except (tokenize.TokenError, SyntaxError):
        return None
    starts = np.cumsum([0, *(len(line) for line in function.splitlines(keepends=True))])
    names = sorted(
        {t.string for t in tokens if t.type == tokenize.NAME and not keyword.iskeyword(t.string) and len(t.string) > 1}
    )
    places = []
    for token in tokens[4:]:
        other = SWAPS.get(token.string)
        if token.type == tokenize.NAME and token.string in names and len(names) > 2:
            other = next(name for name in rng.permutation(names) if name != token.string)
        if other is not None and token.type in (tokenize.OP, tokenize.NAME, tokenize.NUMBER):
            places.append((int(starts[token.start[0] - 1]) + token.start[1], token.string, str(other)))
    if not places:
        return None
    for place in rng.permutation(len(places)):
        at, old, new = places[place]
        changed = function[:at] + new + function[at + len(old) :]
        if compiles(changed):
            return changed, at, at + len(new)
    return None


def compiles(source: str) -> bool:
    """Whether Python takes it: otherwise its parser would find the bug."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # `1 is ...`
            compile(source, "planted", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def cases(tokenizer: Any, count: int) -> list[dict[str, Any]]:
    """Functions with a bug that fit the context: their ids, and which tokens touch the change."""
    rng, found = np.random.default_rng(0), []
    held = functions()[1]
    for index in rng.permutation(len(held)):
        made = planted(held[index], rng)
        if made is None:
            continue
        text, first, last = made
        ids = tokenizer.encode(text)
        if not 20 <= len(ids) <= CONTEXT - 2:
            continue
        ends = np.cumsum([len(tokenizer.token_bytes(i).decode("utf-8", "replace")) for i in ids])
        begins = np.concatenate([[0], ends[:-1]])
        touched = [int(i) for i in np.flatnonzero((begins < last) & (ends > first))]
        if touched:
            found.append({"ids": ids, "touched": touched})
        if len(found) == count:
            break
    return found


def measured(scores: list[np.ndarray], bugs: list[dict[str, Any]]) -> dict[str, float]:
    """How high the changed token stands among the function's: the best of those that touch the change."""
    ranks = []
    for found, bug in zip(scores, bugs, strict=True):
        order = np.argsort(-found, kind="stable")
        ranks.append(min(int(np.flatnonzero(order == place)[0]) for place in bug["touched"]) + 1)
    places = np.array(ranks)
    return {
        "first": float((places == 1).mean()),
        "in_three": float((places <= 3).mean()),
        "mrr": float((1 / places).mean()),
    }


def one(home: str, corpus: str, tokenizer: str, objective: str, seed: int, steps: int, count: int) -> dict[str, Any]:
    """One model trained and asked."""
    import torch
    import torch.nn.functional as F

    from bloomery.core.workspace import Workspace
    from bloomery.models import load_pretrained
    from bloomery.models.encoder import load_encoder
    from bloomery.tokenizer import Tokenizer
    from bloomery.training import TrainConfig, train
    from bloomery.training.building import NetConfig
    from bloomery.training.fit import FitConfig
    from bloomery.training.masked import blank_at

    workspace = Workspace(home)
    fit = FitConfig(
        steps=steps,
        batch_rows=BATCH,
        learning_rate=0.015,
        embedding_learning_rate=0.005,
        seed=seed,
        validations=1,
        precision="float32",
        device="cpu",
    )
    net = NetConfig(**NET, local_attention=WINDOW if objective == "masked" else 0)
    made = train(
        workspace.find(corpus),
        config=TrainConfig(objective=objective, context_length=CONTEXT, net=net, fit=fit),  # type: ignore[arg-type]
        tokenizer=workspace.find(tokenizer),
        workspace=workspace,
    )
    codec = Tokenizer.load(made.path)
    bugs, scores = cases(codec, count), []
    encoder = load_encoder(made.path) if objective == "masked" else None
    decoder = None if encoder is not None else load_pretrained(made.path)
    for bug in bugs:
        ids = torch.tensor([codec.separator_id, *bug["ids"]])
        with torch.inference_mode():
            if encoder is not None and codec.mask_id is not None:
                nats = blank_at(encoder, ids, codec.mask_id)[1:]
            else:
                assert decoder is not None
                nats = F.cross_entropy(decoder(ids[None])[0, :-1].float(), ids[1:], reduction="none")
        scores.append(nats.numpy())
    figures = measured(scores, bugs)
    print(objective, seed, {key: round(value, 3) for key, value in figures.items()}, flush=True)
    return {"kind": objective, "seed": seed, "functions": len(bugs), **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--functions", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2, help="models trained at a time")
    parser.add_argument("--home", default="", help="workspace to keep [default: a temporary one]")
    options = parser.parse_args()
    with scratch_home(options.home) as home:
        from bloomery.corpus import CurateConfig, curate
        from bloomery.tokenizer import TokenizeConfig, Tokenizer, TokenizerConfig, train_tokenizer
        from bloomery.tokenizer import tokenize as tokenize_stage

        path = write_jsonl(Path(home) / "functions.jsonl", ({"text": text} for text in functions()[0]))
        splits: dict[str, Any] = {"validation_fraction": 0.02, "test_fraction": 0.0, "decontaminate_words": 0}
        corpus = curate(config=CurateConfig(sources=(str(path),), **splits), workspace=home)
        made = train_tokenizer(corpus, config=TokenizerConfig(vocab_size=VOCABULARY, masks=True), workspace=home)
        tokenize_stage(corpus, made, config=TokenizeConfig(context_length=CONTEXT), workspace=home)
        arms = [
            (home, corpus.id, made.id, objective, seed, options.steps, options.functions)
            for seed in range(options.seeds)
            for objective in ("masked", "causal")
        ]
        found = run_arms(one, arms, jobs=options.jobs)
        codec = Tokenizer.load(made.path)
        bugs = cases(codec, options.functions)
        counts = np.bincount(
            [i for text in functions()[0] for i in codec.encode(text)], minlength=codec.vocab_size
        ).astype(float)
        rare = measured([-np.log(counts[bug["ids"]] + 1) for bug in bugs], bugs)
        draws = [
            measured([np.random.default_rng([seed, n]).random(len(bug["ids"])) for n, bug in enumerate(bugs)], bugs)
            for seed in range(20)
        ]
    keys = ("first", "in_three", "mrr")
    table: dict[str, Any] = {
        f"{kind} model": {key: over_seeds([one[key] for one in found if one["kind"] == kind]) for key in keys}
        for kind in ("masked", "causal")
    }
    table["rarity of the token"] = {key: over_seeds([rare[key]]) for key in keys}
    table["chance (20 draws)"] = {key: over_seeds([draw[key] for draw in draws]) for key in keys}
    for kind, figures in table.items():
        print(f"{kind:22s}", *(f"{key} {shown(value, '.3f')}" for key, value in figures.items()))
    if options.seeds == len(SEEDS):
        size = {"steps": options.steps, "batch": BATCH, "context": CONTEXT, "vocabulary": VOCABULARY}
        result = {"net": NET, **size, "functions": len(bugs), "arms": found, "table": table}
        keep("bugs", result)


if __name__ == "__main__":
    main()
