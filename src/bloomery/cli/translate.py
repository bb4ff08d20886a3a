"""`bloomery translate`: texts for texts, line by line. This module does not know how they are searched."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from bloomery.cli.options import Common, print_json
from bloomery.core.errors import ArtifactError, ConfigError

if TYPE_CHECKING:
    from bloomery.core.artifact import Artifact
    from bloomery.core.quantity import Quantity
    from bloomery.core.workspace import Workspace
    from bloomery.engine import Translation

_MAX_CHARACTERS = 50_000_000


def translate(
    *texts: Annotated[str, Parameter(help="Texts [default: the lines that come on stdin].")],
    model: Annotated[
        str,
        Parameter(
            help="An encoder-decoder: artifact name or id, folder or hub id [default: the latest that was trained on"
            " pairs here, else the latest that was imported]."
        ),
    ] = "",
    beams: Annotated[int, Parameter(help="1 is greedy search.")] = 1,
    max_new_tokens: Annotated[int, Parameter(help="Tokens of a text at most.")] = 128,
    length_penalty: Annotated[float, Parameter(help="Above 1 prefers long texts, below 1 short ones.")] = 1.0,
    common: Common | None = None,
) -> None:
    """What a model that was trained on pairs writes for each text, one a line; --json prints tokens, log-probabilities,
    timings and joules."""
    common = common or Common()
    if not texts and sys.stdin.isatty():
        raise ConfigError("nothing to translate", hint='bloomery translate "ein Haus"')
    from bloomery.engine import SequenceModel, load

    rows = list(texts) or [line for line in sys.stdin.read(_MAX_CHARACTERS).splitlines() if line.strip()]
    workspace = common.workspace()
    loaded = load(model or latest_translator(workspace), workspace=workspace)
    if not isinstance(loaded, SequenceModel):
        raise ConfigError(f"{loaded.name} does not write texts for texts", hint="bloomery generate, or bl.load(...)")
    found = loaded.translate(rows, beams=beams, max_new_tokens=max_new_tokens, length_penalty=length_penalty)
    loaded.close()
    if found:
        _record(workspace, loaded.name, found)
    if common.json:
        print_json([translation_data(one) for one in found])
        return
    for one in found:
        print(one.text)
    if found and not common.quiet:
        print(f"{loaded.name} {_speed_line(found)}", file=sys.stderr)


def latest_translator(workspace: Workspace) -> Artifact:
    """The newest encoder-decoder that was trained on pairs here, else the newest of unknown training: imported, say.
    Never one that learnt spans only. ArtifactError with a hint if there is none."""
    others: list[Artifact] = []
    for row in workspace.ledger.artifacts(kind="seq2seq"):
        for path in workspace.matching(row["id"], kind="seq2seq"):
            artifact = workspace.find(path, verify=False)
            if artifact.metrics.get("objective") == "sequence":
                return workspace.find(path)
            others += [artifact] if artifact.metrics.get("objective") is None else []
    if not others:
        raise ArtifactError(
            f"no model in {workspace.root} was trained on pairs", hint="bloomery train --objective sequence, or --model"
        )
    return workspace.find(others[0].path)


def translation_data(one: Translation) -> dict[str, Any]:
    """What `--json` says of a text."""
    return {
        "text": one.text,
        "token_ids": list(one.token_ids),
        "logprob": one.logprob,
        "score": one.score,
        "finish_reason": one.finish_reason,
        "source_tokens": one.source_tokens,
        "timings": {
            "prefill_seconds": one.timings.prefill_seconds,
            "decode_seconds": one.timings.decode_seconds,
        },
        "energy_joules": one.energy.to_dict(),
    }


def _record(workspace: Workspace, name: str, found: Sequence[Translation]) -> None:
    """One line in the ledger for all texts of a call, as a server writes one for each request."""
    workspace.ledger.add_request(
        request=f"trans-{secrets.token_hex(12)}",
        route="translate",
        model=name,
        status=200,
        prompt_tokens=sum(one.source_tokens for one in found),
        completion_tokens=sum(one.completion_tokens for one in found),
        seconds=_seconds(found),
        energy_joules=_energy(found),
    )


def _seconds(found: Sequence[Translation]) -> float:
    return sum(one.timings.prefill_seconds + one.timings.decode_seconds for one in found)


def _energy(found: Sequence[Translation]) -> Quantity:
    total = found[0].energy
    for one in found[1:]:
        total = total + one.energy
    return total


def _speed_line(found: Sequence[Translation]) -> str:
    """Tokens, speed and joules of all texts."""
    read, written = (sum(getattr(one, name) for one in found) for name in ("source_tokens", "completion_tokens"))
    seconds = _seconds(found)
    rate = f", {written / seconds:.0f} tokens/s" if seconds > 0 else ""
    return f"[{read} + {written} tokens, {seconds:.2f} s{rate}, {_energy(found).text('J')}]"
