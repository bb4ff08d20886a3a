"""Tables of benchmarks for docs/results.md: a step beside the machine's peak, nanoGPT, llama.cpp, the memory's rate.

This module does not know which results there are (see `write_results`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from label_tables import table


def utilisation(found: Mapping[str, Any]) -> str:
    """Shares of the peak in matrix products, and where a step's time goes."""
    purposes = list(dict.fromkeys(what for one in found["cases"] for what in one["profile"]))
    compiled = any("compiled" in one for one in found["cases"])
    rows = []
    for one in found["cases"]:
        share = one["utilisation"]
        row = [
            f"{one['parameters'] / 1e6:.1f}",
            f"{one['width']}",
            f"{share['median']:.1%} ({share['low']:.1%} to {share['high']:.1%})",
            f"{one['peak_flops'] / 1e9:.0f}",
            f"{one['tokens_per_second']:,.0f}",
        ]
        row += [f"{one['compiled']['ratio']:.2f}" if "compiled" in one else "not measured"] if compiled else []
        rows.append(row + [f"{one['profile'].get(what, 0.0):.1%}" for what in purposes])
    head = ["M parameters", "width", "utilisation (the middle half of steps)", "peak, GFLOP/s", "tokens/s"]
    rows_read, context = found["batch"]
    muon = "; Muon takes every matrix whole" if found["whole"] else ""
    note = " Compiled: how many times as fast a step is, in turn." if compiled else ""
    return (
        f"Steps of the training loop (rows read, loss, gradient, its norm, update) on {rows_read} x {context} tokens, "
        f"float32, {found['threads']} thread(s), {found['steps']} steps{muon}: the model's operations over what the "
        "machine does in products of square matrices of 1,024 before and after each step. The utilisation that a run "
        "prints is beside the fastest of such products, and lower. The other columns are shares of a profile's time."
        f"{note}\n\n" + table([*head, *(["compiled"] if compiled else []), *purposes], rows)
    )


def nanogpt(found: Mapping[str, Any]) -> str:
    """Tiny Shakespeare: ours and nanoGPT's."""
    pairs = found["pairs"]
    unit = "processor seconds" if found["clock"] == "processor" else "seconds"
    rows = [
        [f"{number}", *(f"{one[who][1]:.3f} after {one[who][0]:.0f}" for who in ("nanogpt", "third", "whole"))]
        for number, one in enumerate(pairs, 1)
    ]
    gains = [one["nanogpt"][1] - one["whole"][1] for one in pairs]
    met = sum(one["third"][1] <= found["loss"] for one in pairs)
    return (
        "Tiny Shakespeare by characters: nanoGPT as published (its README's options for a CPU, 2,000 steps), and a "
        f"decoder of bloomery's own ({pairs[0]['parameters']:,} parameters; nanoGPT's has about 0.8 million), trained "
        f"by a loop of its own for a third of nanoGPT's time and for all of it; in turn, {found['threads']} thread(s). "
        f"Validation loss in nats after so many {unit}: all of the validation text for ours, 200 random batches for "
        "nanoGPT. Ours reads 128 characters in training and 64 when it is scored, as nanoGPT does; its constants have "
        "no other split than this one to have been chosen on. "
        f"In nanoGPT's time {np.median(gains):.3f} nats less ({min(gains):.3f} to {max(gains):.3f}); in a third of it "
        f"{met} of {len(pairs)} came to {found['loss']:g}.\n\n"
        + table(["pair", "nanoGPT", "ours, a third of the time", "ours, the same time"], rows)
    )


def engine(found: Mapping[str, Any]) -> str:
    """Decode, prompts and first tokens beside llama.cpp."""
    rows = []
    for one in found["rows"]:
        ratios = one["ratios"]
        spread = f"{np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        formats = f"{one['weights']} / {one['peer_format']}"
        rows.append([one["size"], formats, one["what"], f"{one['ours']:,.0f}", f"{one['peer']:,.0f}", spread])
    return (
        "Random weights of Llama's architecture, the same for both. Ours is the whole engine (scheduling, sampling, "
        "text and log-probabilities included), llama.cpp its decode alone, built for this processor; in turn, "
        f"{found['pairs']} pairs, {found['threads']} threads, {found['new']} new tokens after 32 where nothing else is "
        "said. Tokens a second; the ratio is the median over pairs, lowest to highest.\n\n"
        + table(["model", "format, ours / theirs", "what", "ours", "llama.cpp", "ratio"], rows)
    )


def roofline(found: Mapping[str, Any]) -> str:
    """One stream's token beside what its memory takes."""
    rows = []
    for one in found["rows"]:
        least, products, call, token = (1e3 * one[name] for name in ("least", "products", "call", "token"))
        parts = (least, products - least, call - products, token - call)
        shares, joules = one["shares"], one["joules"]
        row = [one["size"], one["weights"], f"{one['threads']}", f"{one['rate'] / 1e9:.1f}", f"{token:.3f}"]
        row += [f"{part:.3f}" for part in parts]
        row += [f"{np.median(shares):.0%} ({min(shares):.0%} to {max(shares):.0%})", f"{1e3 / token:,.0f}"]
        rows.append([*row, f"{1 / np.median(joules):.1f}, {one['method']}" if joules else "unknown"])
    head = ["model", "format", "threads", "GB/s", "ms a token", "memory", "products", "step", "engine"]
    return (
        f"Milliseconds of a greedy token of one stream ({found['new']} after {found['prompt']}; medians of "
        f"{found['rounds']} rounds) and what they are made of: reading the weights once, at the rate at which this "
        "memory gives a large tensor, which was measured in the same round; what products take beyond that; the rest "
        "of the native step (threads that meet, norms, rotations, attention); the engine (Python, sampling). The "
        "least in the roofline's percentages is memory alone. What is negative is in caches, or noise.\n\n"
        + table([*head, "of the roofline", "tokens/s", "tokens/J"], rows)
    )


def starts(found: Mapping[str, Any]) -> str:
    """From the start of a process to its first token."""
    names = list(dict.fromkeys(name for one in found["rows"] for name in one["seconds"]))
    rows = []
    for one in found["rows"]:
        taken = [one["seconds"].get(name) for name in names]
        told = [f"{np.median(all_):.2f} ({min(all_):.2f} to {max(all_):.2f})" if all_ else "" for all_ in taken]
        rows.append([one["size"], one["weights"], *told, "{:.2f}, {:.2f}".format(*one["first"])])
    return (
        f"Seconds from the start of a process to the first byte of its answer, {found['starts']} starts in turn: "
        "`bloomery generate` of one token after a prompt of 16, from the image that the first start kept, and without "
        "images; Python that imports torch and ends, the least that a command on PyTorch takes; Python that loads the "
        "same model in llama.cpp and decodes the same prompt. Files are in the file cache. The first start tries "
        "native code, and keeps the image when its text is there: to its first byte, and to its end. The bar at 135M "
        f"is {found['bar']} s.\n\n" + table(["model", "format", *names, "bloomery's first"], rows)
    )


def drafts(found: Mapping[str, Any]) -> str:
    """Guesses from the text itself beside plain decode."""
    rows = []
    for one in found["rows"]:
        ratios, bar = one["ratios"], found["bars"][one["name"]]
        told = [f"{np.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}", f"{one['right']:.0%}", f"{bar}"]
        rows.append([one["size"], one["weights"], one["name"], *told])
    equal = "All texts were equal." if all(one["equal"] for one in found["rows"]) else "TEXTS DIFFERED."
    return (
        f"Tokens a second with guesses from the text itself (`serve.drafts`, n-grams) over those without, "
        f"{found['new']} tokens of one stream, in turn: of a text that goes round fifty tokens, greedily, and of free "
        f"text at temperature 1. {equal}\n\n"
        + table(["model", "format", "text", "ratio", "lowest to highest", "guesses right", "bar"], rows)
    )


def formats(found: Mapping[str, Any]) -> str:
    """What lighter weights lose, ours and llama.cpp's."""
    rows = []
    for one in found["rows"]:
        lost = f"{one['lost']:+.5f} ({one['low']:+.5f} to {one['high']:+.5f})" if "lost" in one else ""
        rows.append([one["format"], f"{one['bytes'] / 1e6:.2f}", f"{one['bits']:.5f}", lost, f"{one['right']:.1%}"])
    return (
        f"A decoder trained here ({found['model']}) on {found['windows']} windows of {found['window']} tokens that it "
        "has not learnt from, read by our engine and by llama.cpp from a file of the same weights; fitted: integers "
        "chosen on a text of its training split (`export --calibrate`). Lost: over float32 of the same side, with a "
        f"95% interval over windows. Right: of {found['questions']:,} questions which of four passages follows.\n\n"
        + table(["format", "MB of the file", "bits per byte", "lost", "right"], rows)
    )
