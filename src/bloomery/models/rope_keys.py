"""Rotary settings in a config.json: the older keys, transformers 5's table, and a table for each kind of layer.

This module does not know frequencies (see `rope`) or families.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.core.errors import ConfigError

_TABLES = ("rope_scaling", "rope_parameters")
_ORIGINAL = "original_max_position_embeddings"


def by_layer_type(given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with a rope_parameters of one table for each kind of layer (Gemma 3) taken apart: the table of full
    layers, and the theta of sliding ones as rope_local_base_freq. ConfigError where that would lose something."""
    tables = given.get("rope_parameters")
    if not isinstance(tables, Mapping) or not any(isinstance(table, Mapping) for table in tables.values()):
        return dict(given)
    full, sliding = tables.get("full_attention"), tables.get("sliding_attention")
    odd = tables.keys() - {"full_attention", "sliding_attention"}
    if odd or not isinstance(full, Mapping) or not isinstance(sliding, Mapping):
        raise ConfigError('"rope_parameters" should have a table for full_attention and one for sliding_attention')
    theta, scaling = _rope_table({"rope_parameters": sliding}, "rope_parameters") or (None, None)
    if scaling is not None:
        raise ConfigError("rope scaling on sliding layers is not supported")
    result = {**given, "rope_parameters": full}
    if theta is not None:
        if given.get("rope_local_base_freq", theta) != theta:
            raise ConfigError(
                f"rope_local_base_freq is given as {given['rope_local_base_freq']!r:.60} and {theta!r:.60}"
            )
        result["rope_local_base_freq"] = theta
    return result


def rotary_share(given: Mapping[str, Any]) -> Any:
    """partial_rotary_factor from its own key or from a table; None if nothing says."""
    tables = [given[key] for key in _TABLES if isinstance(given.get(key), Mapping)]
    shares = [place.get("partial_rotary_factor") for place in (given, *tables)]
    shares = [share for share in shares if share is not None]
    if any(share != shares[0] for share in shares):
        raise ConfigError(f"partial_rotary_factor is given as {' and as '.join(f'{share!r:.60}' for share in shares)}")
    return shares[0] if shares else None


def read_rope(given: Mapping[str, Any], default_theta: float, original: Any = None) -> dict[str, Any]:
    """rope_theta and rope_scaling from the older keys or transformers 5's rope_parameters; ConfigError if they differ.

    `original` is the original context of a scaling where a family keeps it beside the tables (Phi-3). Readers disagree
    about which of the two wins, so a file whose two say different things has no one meaning.
    """
    older, newer = (_rope_table(given, key) for key in _TABLES)
    if older and newer and older[1] != newer[1]:
        raise ConfigError("rope_scaling and rope_parameters contradict each other", hint="keep one of them")
    places = [given.get("rope_theta"), *(table[0] for table in (older, newer) if table)]
    thetas = [theta for theta in places if theta is not None]
    if any(theta != thetas[0] for theta in thetas):
        raise ConfigError(f"rope_theta is given as {' and as '.join(f'{theta!r:.60}' for theta in thetas)}")
    theta = thetas[0] if thetas else default_theta
    scaling = (older or newer or (None, None))[1]
    if scaling is not None and original is not None:
        if scaling.get(_ORIGINAL, original) != original:
            raise ConfigError(f"{_ORIGINAL} is given as {original!r:.60} and as {scaling[_ORIGINAL]!r:.60}")
        scaling[_ORIGINAL] = original
    return {"rope_theta": theta, "rope_scaling": scaling}


def _rope_table(given: Mapping[str, Any], key: str) -> tuple[Any, dict[str, Any] | None] | None:
    """(rope_theta or None, the scaling or None for none) of one of the two tables; None without the table."""
    table = given.get(key)
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise ConfigError(f'"{key}" should be a table')
    rest = {name: value for name, value in table.items() if value is not None}
    older_kind = rest.pop("type", None)
    kind = rest.pop("rope_type", None) or older_kind or "default"
    theta = rest.pop("rope_theta", None)
    rest.pop("partial_rotary_factor", None)  # see `rotary_share`
    if kind == "su" or (kind == "yarn" and "short_factor" in rest):
        kind = "longrope"  # what Phi-3 called it
    if kind != "default":
        return theta, {"rope_type": kind, **rest}
    if rest.keys() - {"original_max_position_embeddings", "factor"}:
        raise ConfigError(f"{key}: keys without a rope_type: {', '.join(sorted(rest))}")
    return theta, None
