"""A tiny model behind the application, asked without a network."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from bloomery.core.workspace import Workspace
from bloomery.engine import LanguageModel, load
from bloomery.server import ServeConfig, build_app

make_tiny_model = runpy.run_path(str(Path(__file__).parents[2] / "tiny_model.py"))["make_tiny_model"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load(make_tiny_model(tmp_path_factory.mktemp("models") / "tiny"), device="cpu")


@pytest.fixture
def client(tiny: LanguageModel, workspace: Workspace) -> Iterator[TestClient]:
    app = build_app(tiny, workspace=workspace, config=ServeConfig(api_key="", max_body_bytes=100_000))
    with TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client
