"""Listening for new provisions: Supabase Realtime's inserts become contentless wakeups.

A supervisor around one fresh client per session (``auto_reconnect=False``), since the library's own
recovery can end deaf: a state machine CONNECTING → JOINING → READY → BACKOFF. Never carries truth:
delivery is at most once, so every state change that may hide a missed insert wakes the claimer too.
The only module that imports ``realtime``. Its callbacks only set events and never raise, because a
callback that raises would kill the library's reader silently.

Protocol: Phoenix channels 1.0.0, ``postgres_changes`` with the agent's own JWT
(``agent_realtime_token``).
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

import anyio
from realtime import (
    AsyncRealtimeClient,
    RealtimePostgresChangesListenEvent,
    RealtimeSubscribeStates,
)

from tendril_rt.aio.backoff import Backoff
from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.errors import TendrilError
from tendril_rt.model import ClusterId, RealtimeToken
from tendril_rt.settings import ControlSettings

_JOIN_TIMEOUT_S = 10
_READY_TIMEOUT_S = 15.0  # the real server says "Subscribed to PostgreSQL" up to 3 s after the join
_CLOSE_TIMEOUT_S = 3.0  # the library's close() can hang for 10 s
_WATCH_INTERVAL_S = 5.0
_SWEEP_AFTER_READY_S = 3.0  # rows between the join and readiness are lost on the real server
_REFRESH_AT = 0.8  # of a token's life
_NO_PUSH_RECHECK_S = 600.0

_log = logging.getLogger(__name__)


class State(StrEnum):
    """Where the supervisor stands. OFF: the project offers no token to listen with."""

    CONNECTING = "CONNECTING"
    JOINING = "JOINING"
    READY = "READY"
    BACKOFF = "BACKOFF"
    OFF = "OFF"


class _SessionEnded(TendrilError):
    """This session cannot be trusted any more; a fresh one is needed."""


class Listener:
    """Keeps one session listening and calls *wake* whenever a claim may be worth trying.

    :param fetch_token: asked for a fresh token before each session and before each expiry
    :param wake: called from the event loop; must not raise
    """

    def __init__(
        self,
        settings: ControlSettings,
        *,
        fetch_token: Callable[[], Awaitable[RealtimeToken | None]],
        wake: Callable[[], None],
    ) -> None:
        self._url = f"{settings.url}/realtime/v1"
        self._api_key = settings.api_key
        self._cluster_id: ClusterId = settings.cluster_id
        self._fetch_token = fetch_token
        self._wake = wake
        self._backoff = Backoff(1.0, 60.0, floor_s=0.2)
        self.state = State.CONNECTING

    async def run(self) -> None:
        """Listen until cancelled; every failure ends in a fresh session after a backoff."""
        while True:
            try:
                token = await self._fetch_token()
                if token is None:
                    await self._no_push()
                    continue
                await self._session(token)
            except Exception as exc:  # noqa: BLE001 - the library's failures are not ours to list
                delay_s = self._backoff.next_s()
                self._enter(State.BACKOFF)
                _log.warning(
                    "realtime: %s; polling goes on, next try in %.1f s",
                    exc if isinstance(exc, TendrilError) else f"{type(exc).__name__}: {exc}",
                    delay_s,
                )
                await anyio.sleep(delay_s)

    async def _no_push(self) -> None:
        if self.state is not State.OFF:
            _log.warning(
                "realtime: the control plane has no JWT secret to make a listening token from; "
                "new provisions are found by polling alone"
            )
        self._enter(State.OFF)
        await anyio.sleep(_NO_PUSH_RECHECK_S)

    async def _session(self, token: RealtimeToken) -> None:
        """Run one session to its end.

        :raises _SessionEnded: always, unless cancelled
        """
        self._enter(State.CONNECTING)
        ready, ended = anyio.Event(), Wakeup()
        async with self._connected() as client:
            await client.set_auth(token.token)
            self._enter(State.JOINING)
            await self._join(client, ready, ended)
            self._wake()  # rows that arrived while we were away
            with anyio.move_on_after(_READY_TIMEOUT_S):
                await ready.wait()
            if not ready.is_set():
                raise _SessionEnded(f"joined, but not ready within {_READY_TIMEOUT_S:g} s")
            self._enter(State.READY)
            self._backoff.reset()
            self._wake()
            await self._watch(client, token, ended)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncRealtimeClient]:
        client = AsyncRealtimeClient(
            self._url, token=self._api_key, auto_reconnect=False, timeout=_JOIN_TIMEOUT_S
        )
        try:
            await client.connect()
        except Exception as exc:  # the library raises whatever websockets does
            raise _SessionEnded(f"cannot connect: {type(exc).__name__}: {exc}") from exc
        try:
            yield client
        finally:
            with anyio.move_on_after(_CLOSE_TIMEOUT_S, shield=True):
                await client.close()

    async def _join(self, client: AsyncRealtimeClient, ready: anyio.Event, ended: Wakeup) -> None:
        states: list[RealtimeSubscribeStates] = []

        def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            _log.debug("realtime: channel %s %s", state, error or "")
            states.append(state)
            if state is not RealtimeSubscribeStates.SUBSCRIBED:
                ended.set()

        channel = client.channel(f"provisions-{self._cluster_id}")
        channel.on_postgres_changes(
            RealtimePostgresChangesListenEvent.Insert,
            lambda _: self._wake(),
            table="provisions",
            schema="public",
            filter=f"cluster_id=eq.{self._cluster_id}",
        )
        channel.on_system(
            lambda system: ready.set() if system.extension == "postgres_changes" else None
        )
        with anyio.move_on_after(_JOIN_TIMEOUT_S + 1):
            await channel.subscribe(on_state)
        if not states or states[-1] is not RealtimeSubscribeStates.SUBSCRIBED:
            raise _SessionEnded(
                f"the join was not accepted ({states[-1] if states else 'no answer'})"
            )

    async def _watch(
        self, client: AsyncRealtimeClient, token: RealtimeToken, ended: Wakeup
    ) -> None:
        """Stay until the channel closes, the reader dies, or a token cannot be renewed."""
        refresh_at = anyio.current_time() + token.expires_in_s * _REFRESH_AT
        sweep_at = anyio.current_time() + _SWEEP_AFTER_READY_S
        while True:
            now = anyio.current_time()
            if await ended.wait(max(0.0, min(refresh_at, sweep_at, now + _WATCH_INTERVAL_S) - now)):
                raise _SessionEnded("the channel was closed")
            reader = client._listen_task  # its end is reported nowhere else
            if not client.is_connected or reader is None or reader.done():
                raise _SessionEnded("the connection was lost")
            now = anyio.current_time()
            if now >= sweep_at:
                sweep_at = float("inf")
                self._wake()
            if now >= refresh_at:
                fresh = await self._fetch_token()
                if fresh is None:
                    raise _SessionEnded("the control plane gives no listening token any more")
                await client.set_auth(fresh.token)
                refresh_at = anyio.current_time() + fresh.expires_in_s * _REFRESH_AT
                self._wake()  # rows during a token swap may be lost

    def _enter(self, state: State) -> None:
        if state is not self.state:
            _log.info("realtime: %s", state.value)
        self.state = state
