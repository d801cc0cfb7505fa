"""A TCP proxy between one agent and the control plane that can be cut, stalled and deafened.

With a certificate it speaks TLS to the agent, as whatever stands in front of a real control plane.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

_READ_BYTES = 65536
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class Mode(Enum):
    PASS = auto()
    CUT = auto()  # every connection is reset, new ones as soon as they are made
    STALL = auto()  # bytes wait on both ways, and arrive later unless somebody gives up
    DEAF = auto()  # requests pass, answers are thrown away


class Proxy:
    """See the module.

    :ivar port: where it listens, on loopback
    :ivar tls: its certificate, for connections that begin; None for plain TCP
    """

    def __init__(self, port: int, target_port: int, tls: ssl.SSLContext | None) -> None:
        self.port = port
        self.tls = tls
        self._target_port = target_port
        self._mode = Mode.PASS
        self._flows = anyio.Event()
        self._flows.set()
        self._cut = anyio.Event()

    @property
    def mode(self) -> Mode:
        return self._mode

    def become(self, mode: Mode) -> None:
        """Change how it behaves, for open connections too.

        After DEAF they are reset: their streams have a hole.
        """
        was, self._mode = self._mode, mode
        if mode is Mode.STALL:
            self._flows = anyio.Event()
        else:
            self._flows.set()
        if mode is Mode.CUT or was is Mode.DEAF:
            self._cut.set()
            self._cut = anyio.Event()

    async def handle(self, client: SocketStream) -> None:
        """Serve one connection of the agent."""
        async with client:
            if self._mode is Mode.CUT:
                return
            try:
                stream = await self._secured(client)
                server = await anyio.connect_tcp("127.0.0.1", self._target_port)
            except _BROKEN:
                return
            async with server, anyio.create_task_group() as tasks:
                cut = self._cut

                async def reset() -> None:
                    await cut.wait()
                    tasks.cancel_scope.cancel()

                async def pump(source: ByteStream, sink: ByteStream, *, answers: bool) -> None:
                    await self._pump(source, sink, answers=answers)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(reset)
                tasks.start_soon(lambda: pump(stream, server, answers=False))
                tasks.start_soon(lambda: pump(server, stream, answers=True))

    async def _secured(self, client: SocketStream) -> ByteStream:
        if self.tls is None:
            return client
        return await TLSStream.wrap(
            client, server_side=True, ssl_context=self.tls, standard_compatible=False
        )

    async def _pump(self, source: ByteStream, sink: ByteStream, *, answers: bool) -> None:
        try:
            while True:
                data = await source.receive(_READ_BYTES)
                await self._flows.wait()
                if not (answers and self._mode is Mode.DEAF):
                    await sink.send(data)
        except _BROKEN:
            return


@asynccontextmanager
async def proxying(target_port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """Run a proxy on a free port until the block ends."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not Django's extra
        proxy = Proxy(port, target_port, tls)
        tasks.start_soon(listener.serve, proxy.handle)
        yield proxy
        tasks.cancel_scope.cancel()
