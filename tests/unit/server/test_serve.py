"""serve: the socket comes first, and its errors are one line; see tests/integration for whole processes."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest

from bloomery.core.errors import ArtifactError, BloomeryError, DeviceError
from bloomery.server import ServeConfig, serve
from bloomery.server.serve import _settled, listen


def test_a_free_port_is_found():
    with listen(ServeConfig(port=0)) as listener:
        assert listener.getsockname()[1] > 0


def test_small_chunks_are_sent_without_delay() -> None:
    """Else the second small write of an answer waits until its reader has confirmed the first, 40 ms on Linux."""
    delays: list[int] = []

    async def answered(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        delays.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def asked(listener: socket.socket) -> None:
        async with await asyncio.start_server(answered, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            await reader.read()
            writer.close()
            await writer.wait_closed()

    with listen(ServeConfig(port=0)) as listener:
        asyncio.run(asked(listener))
    assert delays == [1]


def test_a_busy_port_is_a_device_error_with_a_hint():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DeviceError, match=f"port {port} on 127.0.0.1 is in use") as caught:
            listen(ServeConfig(port=port))
        assert "--port" in caught.value.hint
        with pytest.raises(DeviceError):  # before any model is looked for
            serve("no such model", port=port)


def test_an_address_that_is_not_ours_is_a_device_error():
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(DeviceError):
            listen(ServeConfig(host=host, api_key="k"))


def test_a_missing_model_is_an_error_and_frees_the_port(workspace):
    with pytest.raises(ArtifactError) as caught:
        serve("no such model", port=0, workspace=workspace)
    assert isinstance(caught.value, BloomeryError)


def test_while_it_serves_the_garbage_collector_leaves_alone_what_was_loaded():
    with pytest.raises(ZeroDivisionError), _settled():
        assert gc.get_freeze_count() > 10_000
        raise ZeroDivisionError
    assert gc.get_freeze_count() == 0
