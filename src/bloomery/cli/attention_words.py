"""What is said about a head's attention, on the terminal and on a page alike.

This module does not know how either is laid out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bloomery.engine.glass_views import AttentionView, KeyRow

CAPTION = "Attention is not explanation: a weight says what a head reads, not why the model answers as it does."
_ALL_KEYS = 40
_SHOWN_KEYS = 20


def headline(view: AttentionView) -> str:
    """Which head this is."""
    shared = f", key head {view.key_head} of {view.key_heads}" if view.key_heads != view.heads else ""
    cap = f", soft cap {view.softcap:g}" if view.softcap is not None else ""
    how = "additive scores" if view.additive else f"scale {view.scale:.4g}"
    return (
        f"{view.model}: {view.stack}, layer {view.layer} of {view.layers}, head {view.head} of {view.heads}{shared}, "
        f"{view.head_dim} dimensions, {how}{cap}"
    )


def score_columns(view: AttentionView) -> list[str]:
    """The steps from a key to its weight, each with a column: an additive score is one."""
    if view.additive:
        return ["score"]
    return ["q.k", "scaled", *(["capped"] if view.softcap is not None else []), "masked"]


def scores_of(view: AttentionView, key: KeyRow) -> list[float | None]:
    """The numbers of `score_columns`; None where a key is hidden."""
    values = {"score": key.masked, "q.k": key.product, "scaled": key.scaled, "capped": key.capped, "masked": key.masked}
    return [values[name] for name in score_columns(view)]


def difference_line(view: AttentionView) -> str:
    """How far the recomputed numbers are from those that were served."""
    what = "weights" if view.contribution_norm is None else "layer output"
    return (
        f"recomputed {what} differs from what was served by at most {view.max_difference:.1e} "
        f"(its largest number is {view.largest_served:.3g})"
    )


def shown_keys(view: AttentionView) -> tuple[list[KeyRow], str]:
    """The keys for a table, in order: all, or those with the largest weights, and then what is left out."""
    if len(view.keys) <= _ALL_KEYS:
        return list(view.keys), ""
    best = sorted(sorted(view.keys, key=lambda key: -key.weight)[:_SHOWN_KEYS], key=lambda key: key.index)
    rest = 1 - sum(key.weight for key in best)
    return best, f"the {_SHOWN_KEYS} of {len(view.keys):,} keys with the largest weights; the others have {rest:.3f}"
