"""One socket of Realtime: Phoenix channels, frame by frame as the real server answers.

With vsn 2.0.0 frames are arrays, and broadcasts from the database are binary.

Owns what a connection sends, its channels and the terms of their tokens. Must never touch the
database. A client that does not read is hung up on once its backlog is full, so it neither slows
nor outgrows the others. What is not offered is refused by name.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.local.gateway.access import Identity, Refused, Subscription, identified
from tendril_rt.local.gateway.broadcast import Message
from tendril_rt.local.gateway.frames import Frame

_BACKLOG_BYTES = 8 * 2**20  # of frames that the client has not taken yet
_CLOSE_S = 1.0


@dataclass(eq=False)
class Channel:
    """A joined topic under one token; *term* is cancelled when either ends.

    :param owes_ready: the client waits to be told that broadcasts flow
    :param replayed: the ids of the messages that it was sent when it joined
    """

    socket: "Socket"
    join: Frame
    token: str = field(repr=False)
    identity: Identity
    expires_at: float
    owes_ready: bool
    replayed: set[str] = field(default_factory=set)
    subscriptions: list[Subscription] = field(default_factory=list)
    term: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def name(self) -> str:
        """The topic as Postgres knows it."""
        return self.join.topic.removeprefix("realtime:")

    @property
    def is_private(self) -> bool:
        return self.join.payload.config.private

    @property
    def replay(self) -> dict[str, object] | None:
        """What the client wants to be sent of the past, if anything."""
        return self.join.payload.config.broadcast.replay

    def push(self, event: str, payload: object) -> None:
        """Send a frame, unless the channel is closed; never blocks."""
        if not self.term.cancel_called:
            self.socket.send(self.join.topic, event, payload, join_ref=self.join.join_ref)

    def tell(self, status: str, message: str, *, extension: str = "postgres_changes") -> None:
        """Send a ``system`` message."""
        told = {"message": message, "status": status, "extension": extension, "channel": self.name}
        self.push("system", told)

    def hear(self, message: Message) -> None:
        """Send a broadcast from the database if it is for such a channel; never blocks."""
        if message.is_private == self.is_private and message.id not in self.replayed:
            self.socket.send_broadcast(self.join, message)


class Host(Protocol):
    """What a socket asks of the database.

    Cancellation: none of the calls is cut off in the middle of a statement.
    """

    async def authorize(self, channel: Channel, identity: Identity) -> None:
        """Return if *identity* may listen to *channel*.

        :raises Refused: it may not, or nobody can tell
        """

    async def recall(self, channel: Channel) -> Sequence[Message]:
        """Return the messages that *channel* wants replayed, oldest first.

        :raises Refused: what it asks for makes no sense, or nobody can tell
        """

    async def feed(self, channel: Channel) -> None:
        """Keep *channel* fed until cancelled; return if there is nothing more to do for it."""


class Socket:
    """One client's connection and its channels.

    :param vsn: of the protocol, 1.0.0 or 2.0.0
    """

    def __init__(
        self,
        web_socket: web.WebSocketResponse,
        token: str,
        jwt_secret: str,
        vsn: str,
        host: Host,
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self._web_socket = web_socket
        self._token = token
        self._jwt_secret = jwt_secret
        self._has_array_frames = vsn == "2.0.0"
        self._host = host
        self._tasks = anyio.create_task_group()
        self._close_code = WSCloseCode.OK
        self._backlog_bytes = 0
        self._outbox: deque[tuple[bytes, WSMsgType]] = deque()
        self._wakeup = Wakeup()

    async def serve(self) -> None:
        """Talk until the client goes or is hung up on."""
        try:
            async with self._tasks:
                self._tasks.start_soon(self._write)
                async for message in self._web_socket:
                    if message.type is WSMsgType.TEXT:
                        await self._receive(message.data)
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
        self._queue(frame, WSMsgType.TEXT)

    def send_broadcast(self, join: Frame, message: Message) -> None:
        """Send a broadcast from the database to the channel of *join*, like :meth:`send`."""
        if self._has_array_frames and (frame := message.as_binary(join.topic)) is not None:
            self._queue(frame, WSMsgType.BINARY)
        else:
            self.send(join.topic, "broadcast", message.as_payload(), join_ref=join.join_ref)

    def _queue(self, frame: bytes, kind: WSMsgType) -> None:
        self._backlog_bytes += len(frame)
        if self._backlog_bytes > _BACKLOG_BYTES:
            self.hang_up(WSCloseCode.TRY_AGAIN_LATER)
        else:
            self._outbox.append((frame, kind))
            self._wakeup.set()

    async def _write(self) -> None:
        try:
            while await self._wakeup.wait():
                while self._outbox:
                    frame, kind = self._outbox.popleft()
                    await self._web_socket.send_frame(frame, kind)
                    self._backlog_bytes -= len(frame)
        except ConnectionError:
            self._tasks.cancel_scope.cancel()

    async def _receive(self, text: str) -> None:
        try:
            frame = Frame.parsed(text, is_array=self._has_array_frames)
        except (TypeError, ValueError):  # not JSON, or not a frame
            self.hang_up(WSCloseCode.INVALID_TEXT)
            return
        try:
            await self._act(frame, self.channels.get(frame.topic))
        except Refused as exc:
            self._reply(frame, {"reason": str(exc)}, status="error")

    async def _act(self, frame: Frame, channel: Channel | None) -> None:
        match frame.event:
            case "heartbeat" if frame.topic == "phoenix":
                self._reply(frame, {})
            case "phx_join" if frame.topic.startswith("realtime:"):
                await self._join(frame)
            case "phx_leave":
                self._reply(frame, {})
                self._close(channel)
            case _ if channel is None:
                raise Refused("unmatched topic")
            case "access_token":
                await self._renew(channel, frame.payload.access_token or channel.token)
            case "broadcast" | "presence":
                raise _not_offered(frame.event)

    def _reply(self, frame: Frame, response: object, *, status: str = "ok") -> None:
        answer = {"status": status, "response": response}
        self.send(frame.topic, "phx_reply", answer, frame.ref, frame.join_ref)

    async def _join(self, frame: Frame) -> None:
        if frame.topic == "realtime:":
            raise Refused("TopicNameRequired: You must provide a topic name")
        config = frame.payload.config
        if (feature := config.beyond_offer()) is not None:
            raise _not_offered(feature)
        token = frame.payload.access_token or self._token
        owes_ready = config.broadcast.replication_ready
        channel = Channel(self, frame, token, *identified(token, self._jwt_secret), owes_ready)
        await self._host.authorize(channel, channel.identity)
        recalled = await self._host.recall(channel)
        asked = enumerate(config.postgres_changes, 1)
        echo = [{**binding.as_sent(), "id": number} for number, binding in asked]
        self._reply(frame, {"postgres_changes": echo})
        self._close(self.channels.get(frame.topic))
        for message in recalled:
            channel.replayed.add(message.id)
            channel.push("broadcast", message.as_payload(replayed=True))
        self._open(channel)

    async def _renew(self, channel: Channel, token: str) -> None:
        if token == channel.token:
            return
        refusal = ""
        try:
            identity, expires_at = identified(token, self._jwt_secret)
            await self._host.authorize(channel, identity)
        except Refused as exc:
            title, _, words = str(exc).partition(": ")
            refusal = ":signature_error" if title == "JwtSignatureError" else words
        if self.channels.get(channel.join.topic) is not channel:
            return  # its old token expired while we asked
        if refusal:
            self._shut(channel, refusal)
            return
        channel.term.cancel()
        fresh = replace(channel, subscriptions=[], term=anyio.CancelScope())
        self._open(replace(fresh, token=token, identity=identity, expires_at=expires_at))

    def _open(self, channel: Channel) -> None:
        self.channels[channel.join.topic] = channel
        self._tasks.start_soon(self._serve_term, channel)

    async def _serve_term(self, channel: Channel) -> None:
        """Feed *channel* until its token expires."""
        with channel.term:
            with anyio.move_on_after(channel.expires_at - time.time()):
                await self._host.feed(channel)
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
