"""Realtime: ``postgres_changes`` over websockets, fed by one replication stream.

Owns that stream and the list of who listens to what; sockets speak in ``phoenix.py``, and
``access.py`` asks Postgres who may see a row. Must never log a token. Survives restarts of
Postgres: channels stay joined, and each "Subscribed to PostgreSQL" means that whatever commits from
now on is delivered until the stream is lost; once another runs it is said again, as by the real
server.
"""

import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel
import orjson
import psycopg
from aiohttp import WSCloseCode, web

from tendril_rt.aio.backoff import Backoff
from tendril_rt.local.gateway import tokens
from tendril_rt.local.gateway.access import PUBLICATION, Access, connected
from tendril_rt.local.gateway.phoenix import Channel, Grant, Socket, TokenRefused
from tendril_rt.local.gateway.replication import Change, Stream, streaming
from tendril_rt.local.gateway.subscriptions import Identity, Subscription, SubscriptionRefused

_VERSION = "1.0.0"  # of Phoenix' frames
_PING_S = 30.0
_CLOSE_S = 1.0
_RETRY_S = 0.1
_RETRY_MAX_S = 2.0
_ADMISSIONS = 4  # connections that admit subscriptions at one time

_log = logging.getLogger(__name__)


@dataclass
class _Session:
    """The life of one replication stream."""

    started: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Realtime:
    """All sockets, and the stream that they share."""

    def __init__(self, admin_url: str, jwt_secret: str, poll_interval_s: float) -> None:
        self._admin_url = admin_url
        self._jwt_secret = jwt_secret
        self._poll_interval_s = poll_interval_s
        self._session = _Session()
        self._admissions = anyio.Semaphore(_ADMISSIONS)
        self._sockets: set[Socket] = set()
        self._audience: dict[Channel, list[Subscription]] = {}

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
            return _refused("API key is missing")
        if (version := request.query.get("vsn", _VERSION)) != _VERSION:
            return _refused(f"vsn {version} is not offered, use {_VERSION}", status=400)
        try:
            self.grant(token)
        except TokenRefused as exc:
            return _refused(exc.message)
        web_socket = web.WebSocketResponse(timeout=_CLOSE_S, heartbeat=_PING_S, compress=False)
        if not web_socket.can_prepare(request):
            return web.Response(
                status=400, text="'connection' header must contain 'upgrade', got []"
            )
        await web_socket.prepare(request)
        socket = Socket(self, web_socket, token)
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

    def grant(self, token: str) -> Grant:
        """Return what *token* gives.

        :raises TokenRefused: with Realtime's words
        """
        try:
            claims = tokens.verify(token, self._jwt_secret, skew_s=0.0)
        except tokens.TokenError as exc:
            raise _refusal(exc) from exc
        role, expires_at = claims.get("role"), claims.get("exp")
        if not isinstance(role, str) or not isinstance(expires_at, int | float):
            raise TokenRefused("InvalidJWTToken", "Fields `role` and `exp` are required in JWT")
        return Grant(token, Identity(role, orjson.dumps(claims).decode()), expires_at)

    async def keep_subscribed(self, channel: Channel) -> None:
        """Feed *channel* under its present grant, through every loss of the stream."""
        while channel.bindings:
            session = self._session
            await session.started.wait()
            try:
                subscriptions = await self._admitted(channel)
            except SubscriptionRefused as exc:
                self.forget(channel)
                channel.tell("error", str(exc))
                return
            except psycopg.Error:
                await anyio.sleep(_RETRY_S)  # Postgres goes down: the stream will notice too
                continue
            await (
                anyio.lowlevel.checkpoint_if_cancelled()
            )  # the channel may have been left just now
            if not session.ended.is_set():
                self._audience[channel] = subscriptions
                channel.tell("ok", "Subscribed to PostgreSQL")
                await session.ended.wait()

    def forget(self, channel: Channel) -> None:
        """Feed *channel* no more."""
        self._audience.pop(channel, None)

    async def _admitted(self, channel: Channel) -> list[Subscription]:
        identity = channel.grant.identity
        targets = [(binding.id, binding.target()) for binding in channel.bindings]
        async with self._admissions, connected(self._admin_url) as postgres:
            return [
                Subscription(number, target, await postgres.admit(target, identity), identity)
                for number, target in targets
            ]

    async def _follow(self) -> None:
        backoff = Backoff(_RETRY_S, _RETRY_MAX_S, floor_s=_RETRY_S / 2)
        while True:
            try:
                async with (
                    connected(self._admin_url) as postgres,
                    streaming(self._admin_url, PUBLICATION) as stream,
                ):
                    await self._feed(stream, postgres, backoff)
            except psycopg.Error as exc:
                _log.warning("no replication stream, trying again: %s", str(exc).strip())
            await anyio.sleep(backoff.next_s())

    async def _feed(self, stream: Stream, postgres: Access, backoff: Backoff) -> None:
        """Deliver what *stream* brings until it is lost."""
        self._session.started.set()
        try:
            while True:
                await self._deliver(await stream.next(), postgres)
                backoff.reset()
        finally:
            self._session.ended.set()
            self._session = _Session()

    async def _deliver(self, change: Change, postgres: Access) -> None:
        """Send *change* to those who may see it and asked for it."""
        listening = {
            subscription: channel
            for channel, subscriptions in self._audience.items()
            for subscription in subscriptions
            if subscription.covers(change)
        }
        if not listening:
            return
        await self._hold(change)
        for data, receivers in await postgres.deliveries(change, listening):
            ids: dict[Channel, list[int]] = defaultdict(list)
            for subscription in receivers:
                ids[listening[subscription]].append(subscription.id)
            for channel, of_channel in ids.items():
                if channel in self._audience:  # it may have left while Postgres was asked
                    payload = {"data": orjson.Fragment(data), "ids": of_channel}
                    channel.push("postgres_changes", payload)

    async def _hold(self, change: Change) -> None:
        if self._poll_interval_s > 0:
            committed_at = change.committed_at.timestamp()
            tick_at = committed_at + self._poll_interval_s - committed_at % self._poll_interval_s
            await anyio.sleep(max(0.0, tick_at - time.time()))


def _refused(error: str, *, status: int = 401) -> web.Response:
    body = orjson.dumps({"error": error})
    return web.Response(body=body, status=status, content_type="application/json", charset="utf-8")


def _refusal(error: tokens.TokenError) -> TokenRefused:
    if error.reason is tokens.Reason.BAD_SIGNATURE:
        return TokenRefused("JwtSignatureError", "Failed to validate JWT signature")
    if error.reason is tokens.Reason.EXPIRED and error.claims is not None:
        expires_at = error.claims["exp"]
        late_s = int(time.time() - expires_at) if isinstance(expires_at, int | float) else 0
        return TokenRefused("InvalidJWTToken", "Token has expired", f" {late_s} seconds ago")
    return TokenRefused("MalformedJWT", "The token provided is not a valid JWT")
