"""One session with Supabase Realtime: a fresh client, one channel, and a sure end.

The only module that imports ``realtime``. The library is the protocol's own client but no
supervisor: its recovery can end deaf, a callback that raises kills its reader silently, heartbeat
replies are not checked, ``close()`` can hang and leaves tasks behind. So each session gets a fresh
client without ``auto_reconnect``, its callbacks only note what they hear and never raise, whatever
makes a session doubtful becomes its :attr:`Session.fault`, and :func:`opened` leaves neither task
nor socket.

Protocol: Phoenix channels 1.0.0; the frames are those of ``tests/conformance/recordings/realtime``.

Beyond its public names it relies on these of the library, pinned by
``tests/integration/test_push_library.py``: ``client._listen_task``, ``client._heartbeat_task``,
``client._ws_connection``, ``channel._background_tasks``, ``channel._handle_message``.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

import anyio
import orjson
from realtime import (
    AsyncRealtimeChannel,
    AsyncRealtimeClient,
    BroadcastPayload,
    Message,
    PostgresChangesPayload,
    RealtimeChannelBroadcastConfig,
    RealtimeChannelPresenceConfig,
    RealtimePostgresChangesListenEvent,
    RealtimeSubscribeStates,
    ServerMessage,
    SuccessSystemPayload,
)

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control.channel import Channel, Door
from tendril_rt.control.push import Announced, Kind, Path, SessionFailed
from tendril_rt.model import ProvisionId

T = TypeVar("T")

_NEVER_S = 10**9  # our own heartbeats take the place of the library's, whose replies nobody checks
_ABANDON_S = 60  # the library gives up on a join; we do long before
_CLOSE_S = 3.0  # for a close handshake that nobody may answer

_log = logging.getLogger(__name__)


class Session:
    """One client with one joined channel; see :func:`opened`.

    :ivar changed: set whenever there is news: readiness, something heard, a fault
    :ivar fault: why this session is no good any more; the first reason stands
    """

    def __init__(
        self,
        client: AsyncRealtimeClient,
        channel: Channel,
        *,
        on_ready: Callable[[Path], None],
        on_heard: Callable[[Announced], None],
    ) -> None:
        self._client = client
        self._socket = client._ws_connection  # which the library forgets before it is closed
        self._on_ready = on_ready
        self._on_heard = on_heard
        self._joining = anyio.CancelScope()
        self._is_joined = False
        self._answered = anyio.Event()
        self.changed = Wakeup()
        self.fault: SessionFailed | None = None
        self._channel = self._make_channel(channel)
        # Replies to heartbeats go to a topic for which the library has no channel.
        client.channels["phoenix"] = _HeartbeatReplies(client, lambda: self._answered.set())

    def _make_channel(self, wanted: Channel) -> AsyncRealtimeChannel:
        private = wanted.is_private
        broadcast: RealtimeChannelBroadcastConfig = {"ack": False, "self": False}
        if private:
            broadcast["replication_ready"] = True  # else the server does not say when it is
        presence: RealtimeChannelPresenceConfig = {"key": "", "enabled": False}
        channel = self._client.channel(
            wanted.topic,
            {"config": {"broadcast": broadcast, "presence": presence, "private": private}},
        )
        if private:
            channel.on_broadcast("*", self._note_broadcast)
        for change in wanted.changes:
            channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent(change.event),
                self._note_change,
                table=change.table,
                schema="public",
                filter=change.filter,
            )
        channel.on_system(self._note_system)
        return channel

    async def join(self, token: str, *, within_s: float) -> None:
        """Join under *token*.

        Cancellation: safe; the session must then be closed.

        :raises SessionFailed: refused, not answered in time, or the connection was lost
        """
        await self._client.set_auth(token)  # before the join, which carries it
        if reader := self._client._listen_task:
            reader.add_done_callback(self._note_reader_end)
        with self._joining, anyio.move_on_after(within_s):
            await self._channel.subscribe(self._note_state)
        if not self._is_joined:
            self.fail(f"the join was not answered within {within_s:g} s")
        if self.fault is not None:
            raise self.fault

    async def keep_beating(self, *, interval_s: float, reply_within_s: float) -> None:
        """Send Phoenix heartbeats until one is not answered: TCP may be half open for hours.

        Cancellation: safe.
        """
        number = 0
        while self.fault is None:
            await anyio.sleep(interval_s)
            number += 1
            self._answered = anyio.Event()
            with anyio.move_on_after(reply_within_s):
                await self._client.send(
                    Message(topic="phoenix", event="heartbeat", payload={}, ref=f"beat-{number}")
                )
                await self._answered.wait()
            if not self._answered.is_set():
                self.fail(f"no reply to a heartbeat within {reply_within_s:g} s")

    async def renew(self, token: str) -> None:
        """Go on under *token*. No answer comes; an error ends the channel instead."""
        await self._client.set_auth(token)

    def fail(self, reason: str) -> None:
        """Declare the session unfit. Never raises."""
        if self.fault is None:
            self.fault = SessionFailed(reason)
            self._joining.cancel()
        self.changed.set()

    async def end(self) -> None:
        """Close, cut, and end every task the library made, in a few seconds at most.

        ``close()`` waits 10 s for a peer that is gone, cancels reader and heartbeat only after
        that, and leaves behind: a time-out per message sent (10 s), the rejoin that a fault
        scheduled (up to 30 s), background pushes.
        """
        channel, socket, reader = self._channel, self._socket, self._client._listen_task
        tasks = {reader, self._client._heartbeat_task, channel.rejoin_timer.timer}
        tasks |= {*channel._background_tasks, channel.join_push.timeout_task}
        tasks |= {push.timeout_task for push in channel.messages_waiting_for_ack.values()}
        for task in tasks:
            if task is not None and task is not reader:  # which hears the answer to the close
                task.cancel()
        if socket is not None and self.fault is not None:
            socket.transport.abort()  # nobody is there to answer a close, or to be polite to
        try:
            with anyio.move_on_after(_CLOSE_S):
                await self._client.close()
        finally:
            if socket is not None:
                socket.transport.abort()  # does nothing where the close was answered
            with anyio.move_on_after(_CLOSE_S, shield=True):
                await _ended([task for task in tasks if task is not None])

    # The library calls what follows, in its reader, which must outlive it: nothing here may raise.

    def _note_state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            self._is_joined = True
        elif state is RealtimeSubscribeStates.CLOSED:
            self.fail("the server closed the channel")
        elif state is RealtimeSubscribeStates.TIMED_OUT:
            self.fail("the join was not answered")
        else:
            self.fail(_reason_of(error))

    def _note_reader_end(self, reader: "asyncio.Task[None]") -> None:
        if not reader.cancelled():
            exc = reader.exception()
            self.fail(f"the reader ended ({exc!r})" if exc else "the connection was lost")

    def _note_system(self, system: SuccessSystemPayload) -> None:
        if system.extension == "postgres_changes":
            self._tell(self._on_ready, Path.CHANGES)
        elif "Replication connection established" in system.message:
            self._tell(self._on_ready, Path.BROADCAST)

    def _note_broadcast(self, payload: BroadcastPayload) -> None:
        kind = Kind.PULSE if payload["event"] == Kind.PULSE.value else Kind.WAKEUP
        self._tell(self._on_heard, Announced(Path.BROADCAST, kind))

    def _note_change(self, payload: PostgresChangesPayload) -> None:
        data = payload["data"]
        name = (data.get("record") or {}).get("id")
        provision_id = ProvisionId(name) if isinstance(name, str) else None
        age_s = _age_s(data["commit_timestamp"])
        self._tell(self._on_heard, Announced(Path.CHANGES, Kind.INSERT, provision_id, age_s))

    def _tell(self, listener: Callable[[T], None], news: T) -> None:
        try:
            listener(news)
        except Exception:  # noqa: BLE001 - a fault of ours must not end the reader
            _log.exception("realtime: %s", news)
        self.changed.set()


class _HeartbeatReplies(AsyncRealtimeChannel):
    """Stands for the topic of heartbeats, for which the library keeps no channel."""

    def __init__(self, client: AsyncRealtimeClient, on_answer: Callable[[], None]) -> None:
        super().__init__(client, "phoenix")
        self._on_answer = on_answer

    def _handle_message(self, message: ServerMessage) -> None:
        self._on_answer()


@asynccontextmanager
async def opened(
    door: Door,
    channel: Channel,
    *,
    within_s: float,
    on_ready: Callable[[Path], None],
    on_heard: Callable[[Announced], None],
) -> AsyncIterator[Session]:
    """Connect; when the block ends nothing of the session is left, within a few seconds.

    :param on_ready: called at each message that says so
    :raises SessionFailed: no connection
    """
    client = AsyncRealtimeClient(
        f"{door.url}/realtime/v1",
        token=door.api_key,
        auto_reconnect=False,
        hb_interval=_NEVER_S,
        timeout=_ABANDON_S,
    )
    with anyio.move_on_after(within_s) as handshake:
        try:
            await client.connect()
        except Exception as exc:  # the library raises whatever websockets does
            # websockets is the library's business, so its exception is known by its shape only.
            status = getattr(getattr(exc, "response", None), "status_code", None)
            why = str(exc) or type(exc).__name__
            raise SessionFailed(f"cannot connect: {why}", status=status) from exc
    if handshake.cancelled_caught:
        raise SessionFailed(f"cannot connect: no answer to the handshake within {within_s:g} s")
    session = Session(client, channel, on_ready=on_ready, on_heard=on_heard)
    try:
        yield session
    finally:
        with anyio.move_on_after(3 * _CLOSE_S, shield=True):
            await session.end()


async def _ended(tasks: "list[asyncio.Task[None]]") -> None:
    """Cancel *tasks*, wait, and look at their errors, lest asyncio complains of them."""
    for task in tasks:
        task.cancel()
    done, _ = await asyncio.wait(tasks) if tasks else (set(), None)
    for task in done:
        if not task.cancelled() and (exc := task.exception()):
            _log.debug("realtime: %r ended with %r", task.get_coro(), exc)


def _reason_of(error: Exception | None) -> str:
    """Return the server's words, which the library wraps as JSON in an exception."""
    text = str(error) if error else "the channel failed"
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    if not isinstance(said, dict):
        return text
    message = said.get("reason") or said.get("message") or "phx_error"
    extension = said.get("extension")
    return f"{extension}: {message}" if extension == "postgres_changes" else str(message)


def _age_s(timestamp: str) -> float | None:
    try:
        age_s = (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()
    except (TypeError, ValueError):  # no time, or one without a zone
        return None
    return max(0.0, age_s)
