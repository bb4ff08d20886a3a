"""Reference: found once, kept in the run's scratch folder, the same whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.adapt.preference.encoded import Completion
from bloomery.adapt.preference.pairs import completion_logprobs
from bloomery.adapt.preference.reference import reference_logprobs
from bloomery.adapt.starting import Start
from bloomery.core.errors import DataError
from bloomery.core.run import Run
from bloomery.core.stage import StageInputs
from bloomery.core.workspace import Workspace


def test_it_is_what_the_model_said_first(make_model, tmp_path):
    rng = np.random.default_rng(0)
    texts = [Completion((7, 8), tuple(rng.integers(5, 250, rng.integers(1, 20)).tolist())) for _ in range(12)]
    start = Start.of(make_model())
    with Run(Workspace(tmp_path), StageInputs(stage="adapt", config={})) as run:
        found = reference_logprobs(start.decoder, texts, run)
        alone = [completion_logprobs(start.decoder, [one])[0] for one in texts]
        assert found == pytest.approx(alone, abs=1e-4)
        assert start.decoder.training  # as it was
        with torch.no_grad():
            start.decoder.output_weight.add_(1.0)
        assert reference_logprobs(start.decoder, texts, run) == found
        with pytest.raises(DataError, match="other data"):
            reference_logprobs(start.decoder, texts[:3], run)
