"""Configs of an index and of a search."""

from __future__ import annotations

import pytest

from bloomery.core.config import from_dict, to_dict
from bloomery.core.errors import ConfigError
from bloomery.retrieve.cutting.config import CutConfig
from bloomery.retrieve.store.config import IndexConfig, SearchConfig, kept_config, require_embedder


def test_there_and_back(tmp_path):
    config = IndexConfig(cut=CutConfig(method="tokens", size_tokens=64, overlap_tokens=8), embedder="minilm")
    assert from_dict(IndexConfig, to_dict(config)) == config
    assert kept_config(tmp_path) is None


@pytest.mark.parametrize("change", [{"k1": -1}, {"b": 1.5}, {"depth": 0}, {"vector_weight": 0, "lexical_weight": 0}])
def test_searches_out_of_range(change):
    with pytest.raises(ConfigError):
        SearchConfig(**change)


def test_a_model_without_an_endpoint():
    with pytest.raises(ConfigError, match="endpoint"):
        IndexConfig(embedder="minilm", embedder_model="x")


def test_embedders_by_their_names():
    require_embedder("a", "a", "here")
    require_embedder("a", None, "here")
    with pytest.raises(ConfigError, match="in here are those of b, and this embedder is a"):
        require_embedder("a", "b", "here")
