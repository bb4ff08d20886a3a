"""The vocabulary of a corpus where the user names none, found before there are any tokens.

What measuring it costs stands in the ledger as a run without an artifact. This module does not know the rule (see
`planning.vocabulary`).
"""

from __future__ import annotations

import json
from dataclasses import replace

from bloomery.core.artifact import Artifact
from bloomery.core.config import to_dict
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace
from bloomery.energy import EnergyConfig, open_meter
from bloomery.tokenizer import TokenizerConfig, train_tokenizer_inputs
from bloomery.training.planning.plan import Budget
from bloomery.training.planning.vocabulary import choose_vocabulary
from bloomery.training.pretrain_config import PretrainConfig, request_without_tokens


def vocabulary_of(
    corpus: Artifact,
    wanted: TokenizerConfig,
    config: PretrainConfig,
    budget: Budget | None,
    energy: EnergyConfig,
    workspace: Workspace,
) -> int:
    """The vocabulary for a corpus where the user names none: that of the newest tokenizer that was trained on it as
    `wanted` has it otherwise, or, while it is raw text, one that suits the budget."""
    for row in workspace.ledger.artifacts(kind="tokenizer"):
        artifact = workspace.published(row["id"])
        if artifact is None or corpus.id not in artifact.parents:
            continue
        size = artifact.config.get("vocab_size")
        if isinstance(size, int) and _config_of(corpus, replace(wanted, vocab_size=size)) == dict(artifact.config):
            return size
    request = request_without_tokens(config, vocab_size=wanted.vocab_size, budget=budget, energy=energy)
    inputs = StageInputs(stage="vocabulary", config={"budget": to_dict(request.budget)}, parents=(corpus.id,))
    with Run(workspace, inputs, meter=open_meter()) as run:
        with run.phase("measure"):
            say = lambda text: run.progress(0, None, unit="shapes", doing=text)  # noqa: E731
            size, why = choose_vocabulary(
                replace(request, folder=workspace.scratch),
                corpus.metrics["text_bytes"]["train"],
                meter=run.meter,
                say=say,
            )
        run.note(why)
    return size


def _config_of(corpus: Artifact, config: TokenizerConfig) -> object:
    """As the manifest of its tokenizer has it."""
    return json.loads(json.dumps(train_tokenizer_inputs(corpus, config=config).config))
