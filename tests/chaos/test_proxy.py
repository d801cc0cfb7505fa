"""The proxy really cuts, stalls and deafens, and lets everything through again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from tests.chaos.proxy import Mode, Proxy, proxying

_SOON_S = 0.3


@asynccontextmanager
async def _proxied_echo() -> AsyncIterator[Proxy]:
    async def echo(stream: SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, echo)
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's extra
        async with proxying(port) as proxy:
            yield proxy
        tasks.cancel_scope.cancel()


async def _answer(stream: SocketStream, text: bytes) -> bytes:
    await stream.send(text)
    return await stream.receive()


async def _connected(proxy: Proxy) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", proxy.port)


async def test_it_passes_and_cuts() -> None:
    async with _proxied_echo() as proxy:
        async with await _connected(proxy) as stream:
            assert await _answer(stream, b"one") == b"one"
            proxy.become(Mode.CUT)
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        async with await _connected(proxy) as refused:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await _answer(refused, b"two")
        proxy.become(Mode.PASS)
        async with await _connected(proxy) as stream:
            assert await _answer(stream, b"three") == b"three"


async def test_what_is_stalled_arrives_later() -> None:
    async with _proxied_echo() as proxy, await _connected(proxy) as stream:
        assert await _answer(stream, b"one") == b"one"
        proxy.become(Mode.STALL)
        with anyio.move_on_after(_SOON_S) as waiting:
            await _answer(stream, b"two")
        assert waiting.cancelled_caught
        proxy.become(Mode.PASS)
        assert await stream.receive() == b"two"


async def test_a_deaf_connection_is_reset_afterwards() -> None:
    async with _proxied_echo() as proxy, await _connected(proxy) as stream:
        assert await _answer(stream, b"one") == b"one"
        proxy.become(Mode.DEAF)
        with anyio.move_on_after(_SOON_S) as waiting:
            await _answer(stream, b"lost")
        assert waiting.cancelled_caught
        proxy.become(Mode.PASS)
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
