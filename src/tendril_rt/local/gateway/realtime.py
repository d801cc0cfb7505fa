"""Realtime: ``postgres_changes`` over websockets, fed by one replication stream.

Owns that stream and the sockets, which speak in ``phoenix.py``; ``access.py`` asks Postgres who may
see a row. Must never log a token. Survives restarts of Postgres: channels stay joined, and each
"Subscribed to PostgreSQL" means that whatever commits from now on is delivered until the stream is
lost; once another runs it is said again, as by the real server.
"""

import logging
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import orjson
import psycopg
from aiohttp import WSCloseCode, web

from tendril_rt.aio.backoff import Backoff
from tendril_rt.local.gateway.access import Access, Identity, Refused, connected, identified
from tendril_rt.local.gateway.phoenix import Channel, Socket
from tendril_rt.local.gateway.replication import Change, streaming

_PUBLICATION = "supabase_realtime"
_PING_S = 30.0
_CLOSE_S = 1.0
_RETRY_S = 0.1
_RETRY_MAX_S = 2.0

_log = logging.getLogger(__name__)


class _Stream:
    """The life of one replication stream; *access* is there once it has started."""

    def __init__(self) -> None:
        self.access: Access
        self.started = anyio.Event()
        self.ended = anyio.Event()


class Realtime:
    """All sockets, and the stream that they share."""

    def __init__(self, admin_url: str, jwt_secret: str, poll_interval_s: float) -> None:
        self._admin_url = admin_url
        self._jwt_secret = jwt_secret
        self._poll_interval_s = poll_interval_s
        self._stream = _Stream()
        self._sockets: set[Socket] = set()

    @classmethod
    @asynccontextmanager
    async def running(
        cls, admin_url: str, jwt_secret: str, *, poll_interval_s: float = 0.0
    ) -> AsyncIterator["Realtime"]:
        """Follow the database until the block ends; then every socket is hung up on.

        :param admin_url: libpq URL of a superuser
        :param poll_interval_s: hold changes until the next multiple of it, as the real server does
            with its poller; 0 sends them at once
        """
        realtime = cls(admin_url, jwt_secret, poll_interval_s)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(realtime._follow)
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
        socket = Socket(web_socket, token, self._jwt_secret, vsn, self._feed)
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

    async def _feed(self, channel: Channel) -> None:
        """Keep *channel* subscribed through every loss of the stream; return if it cannot be."""
        bindings = channel.join.payload.config.postgres_changes
        while bindings:
            stream = self._stream
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

    async def _follow(self) -> None:
        backoff = Backoff(_RETRY_S, _RETRY_MAX_S, floor_s=_RETRY_S / 2)
        while True:
            stream = self._stream
            try:
                async with (
                    connected(self._admin_url) as stream.access,
                    streaming(self._admin_url, _PUBLICATION) as changes,
                ):
                    stream.started.set()
                    while True:
                        await self._deliver(await changes.next(), stream.access)
                        backoff.reset()
            except psycopg.Error as exc:
                _log.warning("no replication stream, trying again: %s", str(exc).strip())
            if stream.started.is_set():
                stream.ended.set()
                self._stream = _Stream()
            await anyio.sleep(backoff.next_s())

    async def _deliver(self, change: Change, access: Access) -> None:
        """Send *change* to those who asked for it and may see it; each identity is asked once."""
        listening = [
            channel
            for socket in self._sockets
            for channel in socket.channels.values()
            if any(one.covers(change) for one in channel.subscriptions)
        ]
        if not listening:
            return
        if self._poll_interval_s > 0:
            committed_at = change.committed_at.timestamp()
            tick_at = committed_at + self._poll_interval_s - committed_at % self._poll_interval_s
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
