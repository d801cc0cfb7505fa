"""Realtime as a script: a real websocket server whose every answer a test may withhold or change.

What it says when nothing is changed is what the recordings say (``tests/conformance/recordings``).
And :class:`Wire`, a TCP proxy that can go silent, half open, or be cut.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypedDict

import anyio
import orjson
from aiohttp import WSMsgType, web
from anyio.abc import SocketAttribute, SocketStream

from tendril_rt.control.push import Path


class Binding(TypedDict):
    """What a join asks of postgres_changes."""

    event: str
    schema: str
    table: str
    filter: str


@dataclass
class Behaviour:
    """What the server does; each field is one fault when changed.

    :ivar refuses: HTTP status of the handshakes to come, one each
    :ivar join_errors: why the joins to come are refused, one each
    :ivar private_error: why private joins are refused, all of them
    :ivar closes_after: what is followed by a phx_close: "join", "reply" or "ready"
    :ivar readies: paths that say that they are ready
    :ivar delivers: paths on which events come
    """

    refuses: list[int] = field(default_factory=list)
    answers_handshakes: bool = True
    answers_joins: bool = True
    answers_heartbeats: bool = True
    join_errors: list[str] = field(default_factory=list)
    private_error: str | None = None
    closes_after: str | None = None
    readies: set[Path] = field(default_factory=lambda: set(Path))
    delivers: set[Path] = field(default_factory=lambda: set(Path))


class Client:
    """One connection of a listener, as the server sees it."""

    def __init__(self, socket: web.WebSocketResponse, request: web.Request) -> None:
        self.socket = socket
        self.request = request
        self.topic = ""
        self.join_ref = ""
        self.ref: str | None = None  # of the join, while joined
        self.is_private = False
        self.bindings: list[Binding] = []
        self.tokens: list[str] = []

    @property
    def is_joined(self) -> bool:
        return self.ref is not None and not self.socket.closed

    async def send(self, event: str, payload: object, ref: str | None = None) -> None:
        frame = {"event": event, "topic": self.topic, "ref": ref, "payload": payload}
        await self.send_text(orjson.dumps(frame).decode())

    async def send_text(self, text: str) -> None:
        with suppress(ConnectionError):
            await self.socket.send_str(text)

    async def tell(self, extension: str, message: str, status: str = "ok") -> None:
        name = self.topic.removeprefix("realtime:")
        told = {"channel": name, "extension": extension, "message": message, "status": status}
        await self.send("system", told)

    async def close_channel(self) -> None:
        ref, self.ref = self.ref, None
        await self.send("phx_close", {}, ref)

    def cut(self) -> None:
        if self.request.transport is not None:
            self.request.transport.abort()


class PhoenixServer:
    """All connections, and what was asked of the server.

    :ivar joins: the payload of each join
    :ivar handshakes: monotonic time of each
    """

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.clients: list[Client] = []
        self.joins: list[dict[str, object]] = []
        self.handshakes: list[float] = []
        self.heartbeats = 0
        self.url = ""

    @property
    def joined(self) -> list[Client]:
        return [client for client in self.clients if client.is_joined]

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator["PhoenixServer"]:
        server = cls()
        application = web.Application()
        application.router.add_get("/realtime/v1/websocket", server._serve)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            server.url = f"http://{host}:{port}"
            yield server
        finally:
            server.cut()
            with anyio.move_on_after(5, shield=True):
                await runner.cleanup()

    # --- what happens in the database -----------------------------------------------------------

    async def insert(self, provision_id: str) -> None:
        """Announce a provision on every path that delivers."""
        await self.broadcast("wakeup")
        await self.change(provision_id)

    async def broadcast(self, event: str) -> None:
        if Path.BROADCAST not in self.behaviour.delivers:
            return
        for client in self.joined:
            if client.is_private:
                payload = {"event": event, "payload": {}, "type": "broadcast", "meta": {"id": "1"}}
                await client.send("broadcast", payload)

    async def change(self, provision_id: str) -> None:
        if Path.CHANGES not in self.behaviour.delivers:
            return
        for client in self.joined:
            if client.bindings:
                data: dict[str, object] = {
                    "schema": "public",
                    "table": "provisions",
                    "type": "INSERT",
                    "commit_timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
                    "errors": None,
                    "columns": [],
                    "record": {"id": provision_id},
                }
                await client.send("postgres_changes", {"data": data, "ids": [1]})

    def cut(self) -> None:
        """Abort every connection."""
        for client in self.clients:
            client.cut()

    # --- the protocol ---------------------------------------------------------------------------

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.handshakes.append(time.monotonic())
        if not self.behaviour.answers_handshakes:
            await anyio.sleep_forever()
        if self.behaviour.refuses:
            return web.Response(status=self.behaviour.refuses.pop(0), text="refused")
        socket = web.WebSocketResponse(compress=False, timeout=0.1)
        await socket.prepare(request)
        client = Client(socket, request)
        self.clients.append(client)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._receive(client, orjson.loads(message.data))
        finally:
            self.clients.remove(client)
        return socket

    async def _receive(self, client: Client, frame: dict[str, object]) -> None:
        payload = frame["payload"]
        assert isinstance(payload, dict)
        if frame["event"] == "heartbeat":
            self.heartbeats += 1
            if self.behaviour.answers_heartbeats:
                reply = {"status": "ok", "response": {}}
                answer = {"event": "phx_reply", "topic": "phoenix", "ref": frame["ref"]}
                await client.send_text(orjson.dumps({**answer, "payload": reply}).decode())
        elif frame["event"] == "phx_join":
            self.joins.append(payload)
            client.topic = str(frame["topic"])
            await self._join(client, str(frame["ref"]), payload)
        elif frame["event"] == "access_token":
            client.tokens.append(payload["access_token"])
            await self.say_ready(client)

    async def _join(self, client: Client, ref: str, payload: dict[str, object]) -> None:
        do = self.behaviour
        client.tokens.append(str(payload.get("access_token")))
        config = payload["config"]
        assert isinstance(config, dict)
        client.is_private = config["private"]
        client.bindings = config["postgres_changes"]
        client.join_ref = ref
        if not do.answers_joins:
            return
        error = do.join_errors.pop(0) if do.join_errors else None
        error = error or (do.private_error if client.is_private else None)
        if error is not None:
            refusal = {"status": "error", "response": {"reason": error}}
            await client.send("phx_reply", refusal, ref)
            return
        if do.closes_after == "join":
            await client.send("phx_close", {}, ref)
            return
        await self.accept(client)
        if do.closes_after == "reply":
            await client.close_channel()
            return
        await self.say_ready(client)
        if do.closes_after == "ready":
            await client.close_channel()

    async def accept(self, client: Client) -> None:
        """Answer a join with ok."""
        client.ref = client.join_ref
        echo = [{**binding, "id": number} for number, binding in enumerate(client.bindings, 1)]
        accepted = {"status": "ok", "response": {"postgres_changes": echo}}
        await client.send("phx_reply", accepted, client.ref)

    async def say_ready(self, client: Client) -> None:
        if client.is_private and Path.BROADCAST in self.behaviour.readies:
            await client.tell("system", "Replication connection established")
        if client.bindings and Path.CHANGES in self.behaviour.readies:
            await client.tell("postgres_changes", "Subscribed to PostgreSQL")


class Wire:
    """A TCP proxy in front of a server.

    :ivar is_silent: bytes are taken and go nowhere, both ways: a half-open connection
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._streams: list[SocketStream] = []
        self.is_silent = False
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator["Wire"]:
        host, port = url.removeprefix("http://").split(":")
        wire = cls(host, int(port))
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            bound = listener.extra(SocketAttribute.local_port)  # noqa: S610 - not a query
            wire.url = f"http://127.0.0.1:{bound}"
            tasks.start_soon(listener.serve, wire._serve)
            yield wire
            tasks.cancel_scope.cancel()

    async def _serve(self, near: SocketStream) -> None:
        with suppress(OSError):
            async with near, await anyio.connect_tcp(*self._target) as far:
                self._streams += [near, far]
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._pump, near, far, tasks.cancel_scope)
                    tasks.start_soon(self._pump, far, near, tasks.cancel_scope)

    async def _pump(
        self, source: SocketStream, sink: SocketStream, scope: anyio.CancelScope
    ) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            while True:
                data = await source.receive()
                if not self.is_silent:
                    await sink.send(data)
        if not self.is_silent:  # nor does the end of one side reach the other
            scope.cancel()

    async def cut(self) -> None:
        """Drop every connection at once, without a word."""
        streams, self._streams = self._streams, []
        for stream in streams:
            await anyio.aclose_forcefully(stream)
