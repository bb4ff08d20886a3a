"""`bloomery import`: a published model becomes an artifact. This module does not know how weights are read."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bloomery.cli.options import Common, Fresh, show_artifact

Dtype = Annotated[str | None, Parameter(help="float32, bfloat16 or float16 [default: the checkpoint's].")]
_Into = Annotated[
    str | None,
    Parameter(help="float32, bfloat16 or float16 [default: the checkpoint's; float16 for a quantised GGUF file]."),
]


def import_(
    source: Annotated[str, Parameter(help="A Hugging Face folder, a hub id (org/name), or a GGUF file (llama.cpp).")],
    *,
    dtype: _Into = None,
    fresh: Fresh = False,
    common: Common | None = None,
) -> None:
    """Take in open weights: read and checked whole, then kept as a model like our own."""
    common = common or Common()
    from bloomery.engine.exchange import import_model

    made = import_model(source, dtype=dtype, workspace=common.workspace(), fresh=fresh)
    metrics = made.metrics
    lines = [f"{metrics['model_type']}, {metrics['parameters']:,} parameters in {metrics['dtype']}"]
    if "context_length" in metrics:
        lines.append(f"context {metrics['context_length']:,} tokens, vocabulary {metrics['vocab_size']:,}")
    elif "vocab_size" in metrics:
        target = f", of targets {metrics['target_vocab_size']:,}" if "target_vocab_size" in metrics else ""
        lines.append(f"vocabulary {metrics['vocab_size']:,}{target}")
    if metrics.get("labels"):
        lines.append("labels: " + ", ".join(metrics["labels"][:10]))
    if "image_size" in metrics:
        height, width = metrics["image_size"]
        lines.append(f"images of {width} x {height} pixels")
    show_artifact(made, common, lines)
