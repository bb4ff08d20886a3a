"""serve_vllm: start vLLM or find one that runs, and serve it under our contract until SIGINT or SIGTERM.

What we started ends with us. This module does not know routes.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from bloomery.core.errors import BloomeryError, ConfigError, DeviceError
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.server.config import ServeConfig
from bloomery.server.keys import read_keys
from bloomery.server.serve import listen, run_app
from bloomery.server.upstream import Upstream
from bloomery.server.vllm_process import VllmProcess, check_upstream, vllm_command


def serve_vllm(
    model: str | Path | None, *, workspace: Workspace | str | Path | None = None, config: ServeConfig | None = None
) -> None:
    """Serve one model by a vLLM process: a folder, an artifact's name or id, or a hub id, which vLLM downloads itself.

    With `config.upstream` nothing is started, and `model` is not looked at. Raises MissingExtraError without vLLM (or
    httpx), ConfigError for an upstream that is not on loopback, DeviceError when vLLM does not come up.
    """
    config = config or ServeConfig()
    if config.keys:
        read_keys(Path(config.keys))
    workspace = as_workspace(workspace)
    upstream = check_upstream(config.upstream) if config.upstream else ""
    command = [] if upstream else vllm_command()
    if model is None and not upstream:
        raise ConfigError("--engine vllm needs a model", hint="bloomery serve --engine vllm MODEL")
    Upstream(upstream or "http://127.0.0.1")  # a MissingExtraError now
    reference, name = ("", "") if upstream else _model(str(model), workspace)
    listener = listen(config)
    process = VllmProcess(
        command,
        reference,
        name,
        args=config.vllm_args,
        upstream=upstream,
        restarts=config.vllm_restarts,
        start_seconds=config.vllm_start_seconds,
    )
    try:
        with _terms_interrupt():
            process.start()
            models = asyncio.run(_models(process))
        from bloomery.server.upstream_app import build_upstream_app

        app = build_upstream_app(
            process, models, workspace=workspace, config=replace(config, port=listener.getsockname()[1])
        )
        run_app(listener, app, config, [{"id": one["id"], "kind": "language"} for one in models])
    finally:
        process.stop()
        listener.close()


def _model(reference: str, workspace: Workspace) -> tuple[str, str]:
    """What vLLM is told to load, and the name that it is served under."""
    from bloomery.engine.finding import find_model

    hub = not Path(reference).exists() and "/" in reference
    if hub and not workspace.matching(reference):
        return reference, reference
    folder, name = find_model(reference, workspace)
    return str(folder), name


async def _models(process: VllmProcess) -> list[dict[str, Any]]:
    upstream = Upstream(process.url, process.key)
    try:
        told = await upstream.get("/v1/models")
    except BloomeryError as error:
        raise DeviceError(f"{process.url} does not say which models it has: {error.message}") from error
    finally:
        await upstream.close()
    found = [one for one in told.get("data", ()) if isinstance(one, dict) and isinstance(one.get("id"), str)]
    if not found:
        raise DeviceError(f"{process.url} has no model")
    return found


@contextmanager
def _terms_interrupt() -> Iterator[None]:
    """SIGTERM while vLLM loads ends both, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
