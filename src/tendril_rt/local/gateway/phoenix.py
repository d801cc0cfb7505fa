"""One socket of Realtime: Phoenix channels, frame by frame as the real server answers.

Frames are objects (vsn 1.0.0, what is recorded) or arrays of the same five parts (vsn 2.0.0, what
supabase-js speaks).

Owns the frames of a connection, its channels and the terms of their tokens. Must never touch the
database. A client that does not read is hung up on once its backlog is full, so it neither slows
nor outgrows the others. What is not offered is refused by name.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import orjson
from aiohttp import WSCloseCode, WSMsgType, web
from pydantic import BaseModel

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.local.gateway.access import Binding, Identity, Refused, Subscription, identified

_BACKLOG_BYTES = 8 * 2**20  # of frames that the client has not taken yet
_CLOSE_S = 1.0
_ARRAY_FRAME = ("join_ref", "ref", "topic", "event", "payload")


class _Config(BaseModel):
    postgres_changes: list[Binding] = []
    private: bool = False
    presence: dict[str, object] | None = None
    broadcast: dict[str, object] | None = None

    def beyond_offer(self) -> str | None:
        """Return the first thing asked for that the embedded control plane has not."""
        broadcast = self.broadcast or {}
        asked = {
            "a private channel": self.private,
            "presence": (self.presence or {}).get("enabled"),
            "broadcast from the database": broadcast.get("replay")
            or broadcast.get("replication_ready"),
            "`select`": any("select" in one.as_sent() for one in self.postgres_changes),
        }
        return next((feature for feature, is_asked in asked.items() if is_asked), None)


class _Payload(BaseModel):
    config: _Config = _Config()
    access_token: str | None = None


class _Frame(BaseModel):
    topic: str
    event: str
    payload: _Payload = _Payload()
    ref: str | None = None
    join_ref: str | None = None


@dataclass(eq=False)
class Channel:
    """A joined topic under one token; *term* is cancelled when either ends."""

    socket: "Socket"
    join: _Frame
    token: str = field(repr=False)
    identity: Identity
    expires_at: float
    subscriptions: list[Subscription] = field(default_factory=list)
    term: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    def push(self, event: str, payload: object) -> None:
        """Send a frame, unless the channel is closed; never blocks."""
        if not self.term.cancel_called:
            self.socket.send(self.join.topic, event, payload, join_ref=self.join.join_ref)

    def tell(self, status: str, message: str, *, extension: str = "postgres_changes") -> None:
        """Send a ``system`` message."""
        name = self.join.topic.removeprefix("realtime:")
        told = {"message": message, "status": status, "extension": extension, "channel": name}
        self.push("system", told)


class Socket:
    """One client's connection and its channels.

    :param vsn: of the protocol, 1.0.0 or 2.0.0
    :param feed: keeps a channel subscribed until it is cancelled; returns if it cannot
    """

    def __init__(
        self,
        web_socket: web.WebSocketResponse,
        token: str,
        jwt_secret: str,
        vsn: str,
        feed: Callable[[Channel], Awaitable[None]],
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self._web_socket = web_socket
        self._token = token
        self._jwt_secret = jwt_secret
        self._has_array_frames = vsn == "2.0.0"
        self._feed = feed
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
            with anyio.move_on_after(2 * _CLOSE_S, shield=True):
                await self._web_socket.close(code=self._close_code, drain=False)

    def hang_up(self, code: WSCloseCode) -> None:
        """End the connection with *code*; what waits to be written is dropped."""
        self._close_code = code
        self._tasks.cancel_scope.cancel()

    def send(
        self,
        topic: str,
        event: str,
        payload: object,
        ref: str | None = None,
        join_ref: str | None = None,
    ) -> None:
        """Send a frame. Never blocks: a client too far behind is hung up on."""
        if self._has_array_frames:
            frame = orjson.dumps([join_ref, ref, topic, event, payload])
        else:
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
            if self._has_array_frames:
                parts = dict(zip(_ARRAY_FRAME, orjson.loads(text), strict=True))
                frame = _Frame.model_validate(parts)
            else:
                frame = _Frame.model_validate_json(text)
        except (TypeError, ValueError):  # not JSON, or not a frame
            self.hang_up(WSCloseCode.INVALID_TEXT)
            return
        try:
            self._act(frame, self.channels.get(frame.topic))
        except Refused as exc:
            self._reply(frame, {"reason": str(exc)}, status="error")

    def _act(self, frame: _Frame, channel: Channel | None) -> None:
        match frame.event:
            case "heartbeat" if frame.topic == "phoenix":
                self._reply(frame, {})
            case "phx_join" if frame.topic.startswith("realtime:"):
                self._join(frame, channel)
            case "phx_leave":
                self._reply(frame, {})
                self._close(channel)
            case _ if channel is None:
                raise Refused("unmatched topic")
            case "access_token":
                self._renew(channel, frame.payload.access_token or channel.token)
            case "broadcast" | "presence":
                raise _not_offered(frame.event)

    def _reply(self, frame: _Frame, response: object, *, status: str = "ok") -> None:
        answer = {"status": status, "response": response}
        self.send(frame.topic, "phx_reply", answer, frame.ref, frame.join_ref)

    def _join(self, frame: _Frame, joined: Channel | None) -> None:
        if frame.topic == "realtime:":
            raise Refused("TopicNameRequired: You must provide a topic name")
        config = frame.payload.config
        if (feature := config.beyond_offer()) is not None:
            raise _not_offered(feature)
        token = frame.payload.access_token or self._token
        channel = Channel(self, frame, token, *identified(token, self._jwt_secret))
        asked = enumerate(config.postgres_changes, 1)
        echo = [{**binding.as_sent(), "id": number} for number, binding in asked]
        self._reply(frame, {"postgres_changes": echo})
        self._close(joined)
        self._open(channel)

    def _renew(self, channel: Channel, token: str) -> None:
        if token == channel.token:
            return
        try:
            renewed = Channel(self, channel.join, token, *identified(token, self._jwt_secret))
        except Refused as exc:
            title, _, words = str(exc).partition(": ")
            self._shut(channel, ":signature_error" if title == "JwtSignatureError" else words)
        else:
            channel.term.cancel()
            self._open(renewed)

    def _open(self, channel: Channel) -> None:
        self.channels[channel.join.topic] = channel
        self._tasks.start_soon(self._serve_term, channel)

    async def _serve_term(self, channel: Channel) -> None:
        """Feed *channel* until its token expires."""
        with channel.term:
            with anyio.move_on_after(channel.expires_at - time.time()):
                await self._feed(channel)
                await anyio.sleep_forever()
            self._shut(channel, "Token has expired 0 seconds ago")

    def _shut(self, channel: Channel, why: str) -> None:
        channel.tell("error", why, extension="system")
        self._close(channel)

    def _close(self, channel: Channel | None) -> None:
        if channel is not None:
            channel.term.cancel()
            del self.channels[channel.join.topic]
            join_ref = channel.join.join_ref
            self.send(channel.join.topic, "phx_close", {}, join_ref, join_ref)


def _not_offered(feature: str) -> Refused:
    return Refused(f"NotOffered: {feature} is not offered by the embedded control plane")
