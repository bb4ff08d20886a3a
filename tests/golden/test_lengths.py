"""Frequencies that depend on a text's length, through the engine: as transformers has them for such a text."""

from __future__ import annotations

import json
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.engine import load_language_model

TINY = runpy.run_path(str(Path(__file__).parents[1] / "tiny_model.py"))["make_tiny_model"]
DYNAMIC = {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 1e4}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.2, 1.5, 2.0],
    "long_factor": [1.0, 2.0, 4.0, 9.0],
    "original_max_position_embeddings": 32,
    "rope_theta": 1e4,
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY(tmp_path_factory.mktemp("tiny") / "model")


@pytest.mark.parametrize(("scaling", "context"), [(DYNAMIC, 32), (LONGROPE, 256)], ids=["dynamic", "longrope"])
def test_a_text_is_read_as_the_whole_of_it_would_be(scaling: dict[str, Any], context: int, plain: Path, tmp_path: Path):
    """The last token of a request that is as long as it asked to be, whatever was read before it and beside it."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path / "model"
    shutil.copytree(plain, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"rope_parameters": scaling, "max_position_embeddings": context}
    (folder / "config.json").write_text(json.dumps(config))
    ours = load_language_model(folder, device="cpu")
    theirs = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert ours.context_length == 256
    prompt = ours.tokenizer.encode("Once upon a time there was a furnace")
    for new in (4, 41, 33, 41, 4):  # beginnings of other lengths are not taken for this one's
        result = ours.generate(prompt, max_new_tokens=new, temperature=0.0, ignore_eos=True, logprobs=1)
        whole = torch.tensor([[*prompt, *result.token_ids]])
        with torch.inference_mode():
            theirs(whole[:, :3])  # it keeps the frequencies of the longest text until it sees one that needs none
            expected = theirs(whole[:, :-1]).logits[0, -1].log_softmax(-1)
        assert result.token_ids[-1] == int(expected.argmax())
        # 1e-4: logits of size ten in float32.
        assert result.logprobs[-1] == pytest.approx(float(expected.max()), abs=1e-4)
    ours.close()
