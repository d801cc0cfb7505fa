"""One socket of Realtime: Phoenix channels, vsn 1.0.0, frame by frame as the real server answers.

Owns the frames of a connection, its joined topics and the terms of their tokens. Must never touch
the database: a ``Hub`` says who a token is and feeds the channels. A client that does not read is
hung up on once its backlog is full, so it neither slows nor outgrows the others.
Broadcast, presence and private channels are not offered: asking for one is answered with an error.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import orjson
from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import ValidationError

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.errors import TendrilError
from tendril_rt.local.gateway.frames import Binding, Frame, JoinRefused, checked, not_offered
from tendril_rt.local.gateway.subscriptions import Identity

_BACKLOG_BYTES = 8 * 2**20  # of frames that the client has not taken yet
_CLOSE_S = 1.0


class TokenRefused(TendrilError):
    """A token is refused, in Realtime's words: ``str()`` is *message* and *since*.

    :param title: what the answer to a join puts before it
    """

    code = "TOKEN_REFUSED"

    def __init__(self, title: str, message: str, since: str = "") -> None:
        super().__init__(message + since)
        self.title = title
        self.message = message


@dataclass(frozen=True)
class Grant:
    """A good token and whom it stands for; *expires_at* in Unix seconds."""

    token: str = field(repr=False)
    identity: Identity
    expires_at: float


@dataclass(eq=False)
class Channel:
    """A joined topic. *term* is cancelled when the channel closes or another token takes over."""

    socket: "Socket"
    topic: str
    join_ref: str | None
    bindings: list[Binding]
    grant: Grant
    term: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def push(self, event: str, payload: object) -> None:
        """Send a frame to the client; never blocks."""
        self.socket.push(self.topic, event, payload)

    def tell(self, status: str, message: str, *, extension: str = "postgres_changes") -> None:
        """Send a ``system`` message."""
        name = self.topic.removeprefix("realtime:")
        told = {"message": message, "status": status, "extension": extension, "channel": name}
        self.push("system", told)


class Hub(Protocol):
    """What a socket needs of those who know tokens and the database."""

    def grant(self, token: str) -> Grant:
        """Check *token*, or raise ``TokenRefused``."""

    async def keep_subscribed(self, channel: Channel) -> None:
        """Feed *channel* under its present grant; return only if there is nothing to feed."""

    def forget(self, channel: Channel) -> None:
        """Feed *channel* no more, from now on."""


class Socket:
    """One client's connection."""

    def __init__(self, hub: Hub, web_socket: web.WebSocketResponse, token: str) -> None:
        self._hub = hub
        self._web_socket = web_socket
        self._token = token
        self._channels: dict[str, Channel] = {}
        self._tasks = anyio.create_task_group()
        self._close_code = WSCloseCode.OK
        self._backlog_bytes = 0
        self._outbox: deque[bytes] = deque()
        self._wakeup = Wakeup()

    async def serve(self) -> None:
        """Talk until the client goes or is hung up on."""
        try:
            async with self._tasks:
                self._tasks.start_soon(self._write)
                async for message in self._web_socket:
                    if message.type is WSMsgType.TEXT:
                        self._receive(message.data)
                self._tasks.cancel_scope.cancel()
        finally:
            for channel in self._channels.values():
                self._hub.forget(channel)
            with anyio.move_on_after(2 * _CLOSE_S, shield=True):
                await self._web_socket.close(code=self._close_code, drain=False)

    def hang_up(self, code: WSCloseCode) -> None:
        """End the connection with *code*; what waits to be written is dropped."""
        self._close_code = code
        self._tasks.cancel_scope.cancel()

    def push(self, topic: str, event: str, payload: object, ref: str | None = None) -> None:
        """Send a frame. Never blocks: a client too far behind is hung up on."""
        frame = orjson.dumps({"ref": ref, "event": event, "topic": topic, "payload": payload})
        self._backlog_bytes += len(frame)
        if self._backlog_bytes > _BACKLOG_BYTES:
            self.hang_up(WSCloseCode.TRY_AGAIN_LATER)
        else:
            self._outbox.append(frame)
            self._wakeup.set()

    async def _write(self) -> None:
        try:
            while await self._wakeup.wait():
                while self._outbox:
                    frame = self._outbox.popleft()
                    await self._web_socket.send_frame(frame, WSMsgType.TEXT)
                    self._backlog_bytes -= len(frame)
        except ConnectionError:
            self._tasks.cancel_scope.cancel()

    def _receive(self, text: str) -> None:
        try:
            frame = Frame.model_validate_json(text)
        except ValidationError:
            self.hang_up(WSCloseCode.INVALID_TEXT)
            return
        channel = self._channels.get(frame.topic)
        match frame.event:
            case "heartbeat" if frame.topic == "phoenix":
                self._reply(frame)
            case "phx_join" if frame.topic.startswith("realtime:"):
                self._join(frame, channel)
            case "phx_leave":
                self._reply(frame)
                self._close(channel)
            case _ if channel is None:
                self._reply(frame, refusal="unmatched topic")
            case "access_token":
                self._renew(channel, frame.payload.get("access_token"))
            case "broadcast" | "presence":
                self._reply(frame, refusal=not_offered(frame.event))

    def _reply(self, frame: Frame, response: object = None, *, refusal: str | None = None) -> None:
        status = "ok" if refusal is None else "error"
        answer = response or {} if refusal is None else {"reason": refusal}
        payload = {"status": status, "response": answer}
        self.push(frame.topic, "phx_reply", payload, frame.ref)

    def _join(self, frame: Frame, joined: Channel | None) -> None:
        try:
            join = checked(frame)
            grant = self._hub.grant(join.access_token or self._token)
        except JoinRefused as exc:
            self._reply(frame, refusal=str(exc))
        except TokenRefused as exc:
            self._reply(frame, refusal=f"{exc.title}: {exc}")
        else:
            bindings = join.config.postgres_changes
            echo = [{"id": binding.id, **binding.as_sent()} for binding in bindings]
            self._reply(frame, {"postgres_changes": echo})
            self._close(joined)
            channel = Channel(self, frame.topic, frame.join_ref, bindings, grant)
            self._channels[frame.topic] = channel
            self._tasks.start_soon(self._serve_term, channel, channel.term)

    def _renew(self, channel: Channel, token: object) -> None:
        if not isinstance(token, str) or token == channel.grant.token:
            return
        try:
            channel.grant = self._hub.grant(token)
        except TokenRefused as exc:
            is_forged = exc.title == "JwtSignatureError"
            self._shut(channel, ":signature_error" if is_forged else str(exc))
        else:
            channel.term.cancel()
            channel.term = anyio.CancelScope()
            self._tasks.start_soon(self._serve_term, channel, channel.term)

    async def _serve_term(self, channel: Channel, term: anyio.CancelScope) -> None:
        """Feed *channel* until its token expires."""
        with term:
            with anyio.move_on_after(channel.grant.expires_at - time.time()):
                await self._hub.keep_subscribed(channel)
                await anyio.sleep_forever()
            late_s = int(time.time() - channel.grant.expires_at)
            self._shut(channel, f"Token has expired {late_s} seconds ago")

    def _shut(self, channel: Channel, why: str) -> None:
        channel.tell("error", why, extension="system")
        self._close(channel)

    def _close(self, channel: Channel | None) -> None:
        if channel is not None:
            del self._channels[channel.topic]
            self._hub.forget(channel)
            channel.term.cancel()
            self.push(channel.topic, "phx_close", {}, channel.join_ref)
