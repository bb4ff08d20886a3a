"""serve: listen on a port and answer until SIGINT or SIGTERM.

This module does not know routes.
"""

from __future__ import annotations

import dataclasses
import errno
import gc
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from bloomery.core.artifact import Artifact
from bloomery.core.errors import ConfigError, DeviceError
from bloomery.core.workspace import Workspace, as_workspace
from bloomery.engine import LanguageModel, TextEncoder
from bloomery.server.adapters import given_adapters
from bloomery.server.config import ServeConfig
from bloomery.server.keys import read_keys, reading_keys
from bloomery.server.loading import given_draft, open_model
from bloomery.server.shelf import Served, Shelf

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from bloomery.server.service import Service
    from bloomery.server.upstream_app import UpstreamService

_BACKLOG = 128
_SHARED_KEYS = "each counts for itself what a key uses of its limits"
_LAST_SECONDS = 5
"""For answers that were cut off to be sent."""


Reference = Served | str | Path | Artifact


def serve(
    models: Reference | Sequence[Reference],
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    workspace: Workspace | str | Path | None = None,
    api_key: str | None = None,
    config: ServeConfig | None = None,
) -> None:
    """Serve one model or several over OpenAI's HTTP routes, language models and encoders alike.

    Returns after SIGINT or SIGTERM, when running requests have ended.

    `config` replaces `port`, `host` and `api_key`. Nothing is printed on stdout. Raises DeviceError when the port
    is taken, ConfigError for a public address without a key, and whatever `load` raises.
    """
    config = config or ServeConfig(host=host, port=port, api_key=api_key)
    if config.keys:
        read_keys(Path(config.keys))  # a mistake in it should show before a model is loaded
    listener = listen(config)
    try:
        workspace = as_workspace(workspace)
        _run(listener, _loaded(models, workspace, config), workspace, config)
    finally:
        listener.close()


def _loaded(models: Reference | Sequence[Reference], workspace: Workspace, config: ServeConfig) -> Shelf:
    one = isinstance(models, (LanguageModel, TextEncoder, str, Path, Artifact))
    shelf = Shelf([])
    for model in [models] if one else models:  # type: ignore[union-attr]
        owned = isinstance(model, (str, Path, Artifact))
        opened = open_model(model, workspace, config) if owned else model  # type: ignore[arg-type]
        shelf.add(opened, owned=owned)  # type: ignore[arg-type]
    if not len(shelf):
        raise ConfigError("a server needs at least one model")
    given_draft(shelf, workspace, config)
    given_adapters(shelf, config.adapters)
    return shelf


def listen(config: ServeConfig) -> socket.socket:
    """A bound socket. DeviceError, with a hint, when the address cannot be had."""
    try:
        family = socket.getaddrinfo(config.host or None, config.port, type=socket.SOCK_STREAM)[0][0]
        # Named, for asyncio turns Nagle's delay off only then: a stream's first chunk would wait 40 ms for an ACK.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise DeviceError(f"cannot listen on {config.host!r}: {error.strerror or error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((config.host, config.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _cannot_listen(error, config) from error
    return listener


def _cannot_listen(error: OSError, config: ServeConfig) -> DeviceError:
    if error.errno == errno.EADDRINUSE:
        other = config.port + 1 if config.port < 65_535 else 8000
        return DeviceError(f"port {config.port} on {config.host} is in use", hint=f"choose another: --port {other}")
    if error.errno == errno.EACCES:
        return DeviceError(f"port {config.port} needs a right that you do not have", hint="choose one from 1024 up")
    return DeviceError(f"cannot listen on {config.host}:{config.port}: {error.strerror or error}")


def _run(listener: socket.socket, shelf: Shelf, workspace: Workspace, config: ServeConfig) -> None:
    from bloomery.server.app import build_app

    port = listener.getsockname()[1]
    app = build_app(shelf, workspace=workspace, config=dataclasses.replace(config, port=port))
    run_app(listener, app, config, shelf.describe())


def run_app(listener: socket.socket, app: FastAPI, config: ServeConfig, models: Sequence[Mapping[str, Any]]) -> None:
    """Answer until a signal, then drain. `models` are named in the welcome."""
    import uvicorn

    port = listener.getsockname()[1]
    settings = uvicorn.Config(
        app,
        http="h11",  # bounds the size of headers
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_LAST_SECONDS,
    )
    server = draining_server(settings, app.state.service, config.shutdown_seconds)
    print(_welcome(models, config, port), file=sys.stderr, flush=True)
    with reading_keys(config.keys) if config.keys else nullcontext(False) as shared, _quiet_signals(), _settled():
        if shared:
            print(f"note: another server reads {config.keys}: {_SHARED_KEYS}", file=sys.stderr, flush=True)
        server.run(sockets=[listener])


def draining_server(
    settings: uvicorn.Config, service: Service | UpstreamService, shutdown_seconds: float
) -> uvicorn.Server:
    """A server that goes on answering after the first signal, while it drains: new requests with 503, /health with
    "draining". It ends when the last request is over, after `shutdown_seconds`, or at the second signal."""
    import uvicorn

    class DrainingServer(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if service.drain.begun:
                super().handle_exit(sig, frame)
            service.drain.begin()

        async def on_tick(self, counter: int) -> bool:
            drain = service.drain
            if drain.begun and (self.should_exit or not drain.inside or drain.seconds >= shutdown_seconds):
                self.should_exit = True
                service.room.close()  # what runs still is told that the server ends
            return await super().on_tick(counter)

    return DrainingServer(settings)


def _welcome(models: Sequence[Mapping[str, Any]], config: ServeConfig, port: int) -> str:
    host = config.host if config.host not in ("0.0.0.0", "::", "") else "localhost"
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    key = ' -H "authorization: Bearer $BLOOMERY_API_KEY"' if config.needs_key else ""
    name, embeds = models[0]["id"], models[0]["kind"] == "embedding"
    route = "embeddings" if embeds else "chat/completions"
    asked = '"input": "Hello"' if embeds else '"messages": [{"role": "user", "content": "Hello"}]'
    python_key = 'os.environ["BLOOMERY_API_KEY"]' if config.needs_key else '"none"'
    return (
        f"serving {', '.join(model['id'] for model in models)} on {url} (Ctrl-C stops)\n"
        f"  curl {url}/v1/{route}{key} -H 'content-type: application/json' -d '{{\"model\": \"{name}\", {asked}}}'\n"
        f'  python: openai.OpenAI(base_url="{url}/v1", api_key={python_key}).{route.replace("/", ".")}.create(...)'
    )


@contextmanager
def _settled() -> Iterator[None]:
    """What is in memory now stays: the garbage collector need not look through a million objects of libraries again and
    again, while everybody waits."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _quiet_signals() -> Iterator[None]:
    """uvicorn raises the signal that stopped it once more: here that must not end the process.

    Signals can be set in the main thread only; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
