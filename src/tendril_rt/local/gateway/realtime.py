"""Realtime: ``postgres_changes`` and broadcasts from the database, over websockets.

Owns two replication streams, one of each kind, so that neither waits for the other, and the
sockets, which speak in ``phoenix.py``; ``access.py`` asks Postgres who may see a row or join a
private channel. Must never log a token. Survives restarts of Postgres: channels stay joined, and
each "Subscribed to PostgreSQL" means that whatever commits from now on is delivered until the
stream is lost; once another runs it is said again, as by the real server. "Replication connection
established" means the same for broadcasts, and is said once, as by the real server.
"""

import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import orjson
import psycopg
from aiohttp import WSCloseCode, web

from tendril_rt.aio.backoff import Backoff
from tendril_rt.local.gateway.access import Access, Identity, Refused, connected, identified
from tendril_rt.local.gateway.broadcast import Message
from tendril_rt.local.gateway.phoenix import Channel, Socket
from tendril_rt.local.gateway.replication import Change, streaming

_CHANGES = "supabase_realtime"  # publications, named as Supabase's
_MESSAGES = "supabase_realtime_messages_publication"
_PING_S = 30.0
_CLOSE_S = 1.0
_RETRY_S = 0.1
_RETRY_MAX_S = 2.0
_DATABASE_S = 5.0  # that who may join is worth waiting for
_UNREACHABLE = "UnableToConnectToProject: Realtime was unable to connect to the project database"

_log = logging.getLogger(__name__)


class _Stream:
    """The life of one replication stream; *access* is there once it has started."""

    def __init__(self) -> None:
        self.access: Access
        self.started = anyio.Event()
        self.ended = anyio.Event()


class _Follower:
    """Keeps a stream of one publication running.

    :ivar stream: the one that runs, or will next
    """

    def __init__(
        self, admin_url: str, publication: str, deliver: Callable[[Change, Access], Awaitable[None]]
    ) -> None:
        self._admin_url = admin_url
        self._publication = publication
        self._deliver = deliver
        self.stream = _Stream()

    async def follow(self) -> None:
        """Deliver changes until cancelled."""
        backoff = Backoff(_RETRY_S, _RETRY_MAX_S, floor_s=_RETRY_S / 2)
        while True:
            stream = self.stream
            try:
                async with (
                    connected(self._admin_url) as stream.access,
                    streaming(self._admin_url, self._publication) as changes,
                ):
                    stream.started.set()
                    while True:
                        await self._deliver(await changes.next(), stream.access)
                        backoff.reset()
            except psycopg.Error as exc:
                _log.warning("no replication stream, trying again: %s", str(exc).strip())
            if stream.started.is_set():
                stream.ended.set()
                self.stream = _Stream()
            await anyio.sleep(backoff.next_s())


class Realtime:
    """All sockets, and the streams that they share; the host of their channels."""

    def __init__(self, admin_url: str, jwt_secret: str, changes_interval_s: float) -> None:
        self._jwt_secret = jwt_secret
        self._changes_interval_s = changes_interval_s
        self._changes = _Follower(admin_url, _CHANGES, self._deliver_change)
        self._messages = _Follower(admin_url, _MESSAGES, self._deliver_message)
        self._sockets: set[Socket] = set()

    @classmethod
    @asynccontextmanager
    async def running(
        cls, admin_url: str, jwt_secret: str, *, changes_interval_s: float = 0.0
    ) -> AsyncIterator["Realtime"]:
        """Follow the database until the block ends; then every socket is hung up on.

        :param admin_url: libpq URL of a superuser
        :param changes_interval_s: hold changes until the next multiple of it, as the real server
            does with its poller; 0 sends them at once, as broadcasts always are
        """
        realtime = cls(admin_url, jwt_secret, changes_interval_s)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(realtime._changes.follow)
                tasks.start_soon(realtime._messages.follow)
                try:
                    yield realtime
                finally:
                    realtime.hang_up()
                    tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from None  # the block's own error, as its callers know it

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one client until either side hangs up."""
        token = request.query.get("apikey", request.headers.get("x-api-key"))
        if token is None:
            return _unauthorized("API key is missing")
        try:
            identified(token, self._jwt_secret)
        except Refused as exc:
            return _unauthorized(re.sub(r"^\w+: | \d+ seconds ago$", "", str(exc)))
        web_socket = web.WebSocketResponse(timeout=_CLOSE_S, heartbeat=_PING_S, compress=False)
        if not web_socket.can_prepare(request):
            words = "'connection' header must contain 'upgrade', got []"
            return web.Response(status=400, text=words)
        await web_socket.prepare(request)
        vsn = request.query.get("vsn", "1.0.0")
        socket = Socket(web_socket, token, self._jwt_secret, vsn, self)
        self._sockets.add(socket)
        try:
            await socket.serve()
        finally:
            self._sockets.discard(socket)
        if web_socket.close_code == WSCloseCode.ABNORMAL_CLOSURE and request.transport is not None:
            request.transport.abort()  # it reads nothing, so closing would wait on what is buffered
        return web_socket

    def hang_up(self) -> None:
        """End every connection: call it before the HTTP server waits for its handlers."""
        for socket in self._sockets:
            socket.hang_up(WSCloseCode.GOING_AWAY)

    async def authorize(self, channel: Channel, identity: Identity) -> None:
        """Ask the policies, if *channel* is private."""
        if channel.is_private:
            async with self._asking() as access:
                await access.check_listening(channel.name, identity)

    async def recall(self, channel: Channel) -> Sequence[Message]:
        """Read what *channel* wants replayed."""
        if (asked := channel.replay) is None:
            return []
        if not channel.is_private:
            raise Refused("UnableToReplayMessages: Replay is not allowed for public channels")
        async with self._asking() as access:
            return await access.recall(channel.name, asked.get("since"), asked.get("limit", 25))

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Access]:
        """Let the block ask Postgres, if it can be reached; not cancelled meanwhile.

        :raises Refused: it cannot
        """
        stream = self._messages.stream
        with anyio.move_on_after(_DATABASE_S):
            await stream.started.wait()
        if not stream.started.is_set():
            raise Refused(_UNREACHABLE)
        try:
            with anyio.CancelScope(shield=True):  # a statement is bounded, and others go on
                yield stream.access
        except psycopg.Error as exc:
            raise Refused(_UNREACHABLE) from exc

    async def feed(self, channel: Channel) -> None:
        """Subscribe *channel*; tell it when broadcasts flow, if it wants to know."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._announce, channel)
            await self._subscribe(channel)

    async def _announce(self, channel: Channel) -> None:
        if channel.owes_ready:
            await self._messages.stream.started.wait()
            channel.tell("ok", "Replication connection established", extension="system")
            channel.owes_ready = False

    async def _subscribe(self, channel: Channel) -> None:
        """Keep *channel* subscribed through every loss of the stream; return if it cannot be."""
        bindings = channel.join.payload.config.postgres_changes
        while bindings:
            stream = self._changes.stream
            await stream.started.wait()
            try:
                with anyio.CancelScope(shield=True):  # a statement is bounded, and others go on
                    role = channel.identity.role
                    admitted = [await stream.access.admit(binding, role) for binding in bindings]
            except Refused as exc:
                channel.tell("error", str(exc))
                return
            except psycopg.Error:
                await anyio.sleep(_RETRY_S)  # Postgres goes down: the stream will notice too
                continue
            if not stream.ended.is_set():
                channel.subscriptions = admitted
                channel.tell("ok", "Subscribed to PostgreSQL")
                await stream.ended.wait()

    async def _deliver_message(self, change: Change, _: Access) -> None:
        """Send a broadcast to everybody who is in its channel, as joining was allowed."""
        if (message := Message.inserted(change.rows["record"])) is not None:
            for socket in self._sockets:
                if (channel := socket.channels.get(f"realtime:{message.topic}")) is not None:
                    channel.hear(message)

    async def _deliver_change(self, change: Change, access: Access) -> None:
        """Send *change* to those who asked for it and may see it; each identity is asked once."""
        listening = [
            channel
            for socket in self._sockets
            for channel in socket.channels.values()
            if any(one.covers(change) for one in channel.subscriptions)
        ]
        if not listening:
            return
        if self._changes_interval_s > 0:
            committed_at = change.committed_at.timestamp()
            tick_at = (
                committed_at + self._changes_interval_s - committed_at % self._changes_interval_s
            )
            await anyio.sleep(max(0.0, tick_at - time.time()))
        rows = await access.rows(change)
        events: dict[Identity, bytes | None] = {}
        for channel in listening if rows else []:
            ids = [
                number
                for number, one in enumerate(channel.subscriptions, 1)
                if one.covers(change) and one.fits(rows)
            ]
            if ids and channel.identity not in events:
                events[channel.identity] = await access.event(change, rows, channel.identity)
            if ids and (event := events[channel.identity]) is not None:
                channel.push("postgres_changes", {"data": orjson.Fragment(event), "ids": ids})


def _unauthorized(error: str) -> web.Response:
    body = orjson.dumps({"error": error})
    return web.Response(body=body, status=401, content_type="application/json", charset="utf-8")
