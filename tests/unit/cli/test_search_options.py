"""Several texts from the command line, and sampling parameters by name."""

from __future__ import annotations

import json

import pytest

from bloomery.cli.search_options import SearchOptions
from bloomery.core.errors import ConfigError


def test_parameters_are_read_as_toml_or_text():
    options = SearchOptions(set_=["repetition_penalty=1.2", "ignore_eos=true", "stop=x", 'logit_bias={"5" = 2}'])
    found = options.parameters()
    assert found == {"repetition_penalty": 1.2, "ignore_eos": True, "stop": "x", "logit_bias": {"5": 2}}
    assert not options.several and SearchOptions(samples=2).several and SearchOptions(beams=3).several
    for wrong in ("x", "=3", "a b=1"):
        with pytest.raises(ConfigError, match="name=value"):
            SearchOptions(set_=[wrong]).parameters()


def test_samples_best_of_and_beams(call, tiny):
    common = ["generate", "Once", "--max-new-tokens", "6", "--home", str(tiny.home)]
    drawn = json.loads(call(*common, "--samples", "3", "--seed", "1", "--json").out)["texts"]
    assert len(drawn) == 3
    best = json.loads(call(*common, "--samples", "1", "--best-of", "3", "--seed", "1", "--json").out)["texts"]
    means = [one["logprob"] / len(one["token_ids"]) for one in drawn]
    assert best[0]["token_ids"] == drawn[means.index(max(means))]["token_ids"]
    beams = json.loads(call(*common, "--beams", "4", "--json").out)["texts"]
    assert len(beams) == 4 and "log-probability" in call(*common, "--beams", "2").out
    greedy = call(*common, "--temperature", "0", "--drafts").out
    assert greedy == call(*common, "--temperature", "0").out


def test_mistakes_end_in_one_line(call, tiny):
    common = ["generate", "Once", "--home", str(tiny.home)]
    assert "repetition_penalty" in call.mistake(*common, "--set", "repetition_penalti=1.2")
    assert "beams" in call.mistake(*common, "--beams", "0")
    assert "n should be" in call.mistake(*common, "--samples", "3", "--best-of", "2")
