"""Push that never goes deaf: keeps one session listening and judges whether it still hears.

A state machine CONNECTING → JOINING → READY → BACKOFF around one fresh session after another
(``realtime.py``); OFF while the project offers no token. Never carries truth: delivery is at most
once, so every change that may hide something asks for a claim sweep too.

The private channel carries both paths: broadcasts and ``postgres_changes``. A path that the project
refuses is left out and asked for again after a while; a path that is ready and silent is judged by
``judgement.py`` and cured by a fresh token, then by fresh sessions.

No claim is delayed on purpose, however many agents a wakeup reaches: the first to claim wins, the
others' claims find an empty queue, which is the cheapest call there is (docs/capacity.md).
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio

from tendril_rt.aio.backoff import Backoff
from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control import realtime
from tendril_rt.control.channel import of_cluster
from tendril_rt.control.judgement import Offer, PathJudge, Patience
from tendril_rt.control.push import (
    Announced,
    Cause,
    Claimed,
    Cure,
    CureTried,
    Kind,
    OnEvent,
    Path,
    PathDeaf,
    PathHealed,
    PathReady,
    PushEvent,
    PushMissed,
    SessionFailed,
    State,
    StateChanged,
    TokenNotRenewed,
    TokenRenewed,
    log_event,
)
from tendril_rt.errors import ControlPlaneError
from tendril_rt.model import RealtimeToken
from tendril_rt.settings import ControlSettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Every interval of the listener, in seconds; tests shorten them."""

    connect: float = 10.0
    join: float = 10.0  # the real server holds a refusal back for 5 s
    ready: float = 15.0  # it says "Subscribed to PostgreSQL" up to 3 s after the join
    sweep: float = 3.0  # rows between the join and readiness are lost on it
    heartbeat: float = 20.0  # with the reply below: half-open TCP is found within 40 s
    heartbeat_reply: float = 20.0
    echo: float = 5.0  # from a heartbeat's answer to its pulse
    announce: float = 3.0  # from a claim to its announcement; 0.65 s is the real server's p99
    swap: float = 5.0  # what is announced during a token swap may be lost
    cure_spacing: float = 60.0
    cure_spacing_max: float = 3600.0
    refresh_at: float = 0.8  # of a token's life: a share, not seconds
    refused: float = 3600.0  # until a refused path is asked for again
    no_token: float = 600.0  # until a project without tokens is asked again
    stable: float = 30.0  # READY for so long makes the backoff start again
    spread: float = 5.0  # of the first try after that: whoever listened to that server comes back
    backoff: float = 1.0
    backoff_max: float = 60.0
    backoff_floor: float = 0.2
    rate_limit: float = 15.0  # the least wait after "too many"


class Listener:
    """Keeps listening and calls *wake* whenever a claim may be worth trying.

    The callbacks are called from the event loop and must neither raise nor block.

    :param fetch_token: asked for a fresh token before each session and before each expiry
    :param heed: a wakeup came by broadcast: there may be news of held leases (cancel, drain)
    :param probe: asks for a heartbeat soon: its echo shows whether a cure helped
    :ivar state: see :class:`State`
    :ivar sessions: how many were begun
    """

    def __init__(
        self,
        settings: ControlSettings,
        *,
        fetch_token: Callable[[], Awaitable[RealtimeToken | None]],
        wake: Callable[[Cause], None],
        heed: Callable[[], None] = lambda: None,
        probe: Callable[[], None] = lambda: None,
        on_event: OnEvent = log_event,
        timing: Timing | None = None,
    ) -> None:
        self._settings = settings
        self._fetch_token = fetch_token
        self._wake = wake
        self._heed = heed
        self._probe = probe
        self._on_event = on_event
        self._timing = t = timing or Timing()
        self._patience = Patience(
            backoff=Backoff(t.backoff, t.backoff_max, floor_s=t.backoff_floor),
            stable_s=t.stable,
            spread_s=t.spread,
            rate_limit_s=t.rate_limit,
        )
        self._judges = {
            path: PathJudge(
                is_exact=path is Path.CHANGES,
                spacing_s=t.cure_spacing,
                spacing_max_s=t.cure_spacing_max,
            )
            for path in Path
        }
        self._offer = Offer(t.refused)
        self._renewal = Wakeup()
        self._restart = Wakeup()
        self._session: realtime.Session | None = None
        self._joined_at = 0.0
        self._ready_since = self._sweep_at = self._probe_at = math.inf
        self._beat_sent_at: float | None = None
        self.state = State.CONNECTING
        self.sessions = 0

    @property
    def ready(self) -> frozenset[Path]:
        """The paths that the server says it delivers on."""
        return frozenset(path for path, judge in self._judges.items() if judge.is_ready)

    @property
    def deaf(self) -> frozenset[Path]:
        """The paths that did not bring what they must, and nothing since."""
        return frozenset(path for path, judge in self._judges.items() if judge.is_deaf)

    # --- what the agent tells -------------------------------------------------------------------

    def beat_sent(self, at: float) -> None:
        """Note that a heartbeat is on its way: its pulse may come before its answer."""
        self._beat_sent_at = at

    def beat_answered(self, sent_at: float) -> None:
        """Expect the pulse of the heartbeat sent at *sent_at*; anybody's will do."""
        due = anyio.current_time() + self._timing.echo
        self._judges[Path.BROADCAST].expect("the pulse of a heartbeat", since=sent_at, due=due)
        self._look_again()

    def claimed(self, claim: Claimed) -> None:
        """Expect that each path announced the provision, or will soon.

        Only a first attempt tells anything: later ones are queued without an insert.
        """
        self._emit(claim)
        if claim.attempt != 1 or claim.queued_s is None:
            return
        queued_at = claim.sent_at - max(0.0, claim.queued_s)  # or a little later, never sooner
        due = anyio.current_time() + self._timing.announce
        for judge in self._judges.values():
            judge.expect(claim.provision_id, since=queued_at, due=due)
        self._look_again()

    def restart(self, reason: str) -> None:
        """Begin a fresh session at once: this one's socket cannot be trusted after a suspend."""
        self._restart.set()
        if self._session is not None:
            self._session.fail(reason)

    # --- one session after another --------------------------------------------------------------

    async def run(self) -> None:
        """Listen until cancelled; every failure ends in a fresh session after a backoff."""
        while True:
            try:
                token = await self._fetch_token()
                if token is None:
                    await self._wait_for_tokens()
                else:
                    await self._run_session(token)
            except SessionFailed as exc:
                await self._back_off(str(exc), is_rate_limit=exc.is_rate_limit)
            except ControlPlaneError as exc:
                await self._back_off(f"no token to listen with: {exc}")
            except Exception as exc:  # noqa: BLE001 - the library's failures are not ours to list
                _log.debug("realtime: a session ended in an error", exc_info=exc)
                await self._back_off(_told(exc))

    async def _run_session(self, token: RealtimeToken) -> None:
        """Run one session to its end; return where a fresh one may follow at once.

        :raises SessionFailed: it failed, or could not be had
        """
        t = self._timing
        paths = self._offer.paths(anyio.current_time())
        self.sessions += 1
        self._ready_since = math.inf
        self._enter(State.CONNECTING)
        try:
            async with realtime.opened(
                self._settings,
                of_cluster(self._settings.cluster_id, paths),
                within_s=t.connect,
                on_ready=self._note_ready,
                on_heard=self._note_heard,
            ) as session:
                self._enter(State.JOINING, " and ".join(sorted(paths)))
                self._session = session
                self._joined_at = anyio.current_time()
                for path in paths:
                    self._judges[path].joined(ready_by=self._joined_at + t.ready)
                await session.join(token.token, within_s=t.join)
                self._wake(Cause.SWEEP)  # rows that arrived while nobody listened
                await self._attend(session, token)
        except SessionFailed as exc:
            refusal = self._offer.refusal(str(exc), paths, anyio.current_time())
            if refusal is None:
                raise
            self._emit(refusal)
        finally:
            self._session = None
            for judge in self._judges.values():
                judge.closed()

    async def _attend(self, session: realtime.Session, token: RealtimeToken) -> None:
        """Stay with a joined session until a fresh one is due.

        :raises SessionFailed: it is not fit any more
        """
        t = self._timing
        async with anyio.create_task_group() as tasks:

            async def keep_beating() -> None:
                await session.keep_beating(interval_s=t.heartbeat, reply_within_s=t.heartbeat_reply)

            tasks.start_soon(keep_beating)
            tasks.start_soon(self._keep_token_fresh, session, token)
            fault = await self._watch(session)
            tasks.cancel_scope.cancel()
        if fault is not None:
            raise fault

    async def _watch(self, session: realtime.Session) -> SessionFailed | None:
        """Return what is wrong with *session*, or None when a fresh one may follow at once."""
        t = self._timing
        ready_by = self._joined_at + t.ready
        while not await self._restart.wait(0):
            now = anyio.current_time()
            if session.fault is not None:
                return session.fault
            if not self.ready and now >= ready_by:
                return SessionFailed(f"joined, but nothing was ready within {t.ready:g} s")
            if self._offer.ask_again_at <= now:
                return None
            self._do_what_is_due(now)
            if self._needs_fresh_session(now):
                return None
            if self.ready:
                ready_by = math.inf
            looks = [judge.next_look_at for judge in self._judges.values()]
            next_at = min(
                self._sweep_at, self._probe_at, ready_by, self._offer.ask_again_at, *looks
            )
            await session.changed.wait(max(0.0, next_at - now) if next_at < math.inf else None)
        return None

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._sweep_at:
            self._sweep_at = math.inf
            self._wake(Cause.SWEEP)
        if now >= self._probe_at:
            self._probe_at = math.inf
            self._probe()

    def _needs_fresh_session(self, now: float) -> bool:
        """Judge each path; start the cure that is due. Return True if it is a fresh session."""
        is_fresh_due = False
        for path, judge in self._judges.items():
            was_deaf = judge.is_deaf
            for what in judge.missed(now):
                self._emit(PushMissed(path, what))
            if judge.is_deaf and not was_deaf:
                self._emit(PathDeaf(path))
            cure = judge.cure(now)
            if cure is not None:
                self._emit(CureTried(path, cure, judge.cures))
            if cure is Cure.TOKEN:
                self._renewal.set()
            is_fresh_due |= cure is Cure.SESSION
        return is_fresh_due

    async def _keep_token_fresh(self, session: realtime.Session, token: RealtimeToken) -> None:
        """Swap the token in good time, and when a cure wants it; a failure is tried again."""
        t = self._timing
        backoff = Backoff(t.backoff, t.backoff_max, floor_s=t.backoff)
        now = anyio.current_time()
        expires_at, renew_at = now + token.expires_in_s, now + self._refresh_s(token)
        while True:
            is_cure = await self._renewal.wait(max(0.0, renew_at - anyio.current_time()))
            try:
                fresh = await self._fetch_token()
            except ControlPlaneError as exc:
                delay_s = backoff.next_s()
                now = anyio.current_time()
                renew_at = now + delay_s
                self._emit(TokenNotRenewed(str(exc), expires_at - now, delay_s))
                continue
            if fresh is None:
                session.fail("the control plane gives no token to listen with any more")
                return
            now = anyio.current_time()
            for judge in self._judges.values():
                judge.excuse(now + t.swap)
            await session.renew(fresh.token)
            self._emit(TokenRenewed(fresh.expires_in_s))
            backoff.reset()
            expires_at, renew_at = now + fresh.expires_in_s, now + self._refresh_s(fresh)
            self._wake(Cause.SWEEP)
            self._sweep_at = now + t.sweep
            if is_cure:
                self._probe_at = now + t.swap  # whatever comes before is not judged
            self._look_again()

    def _refresh_s(self, token: RealtimeToken) -> float:
        jitter = random.uniform(0.9, 1.0)  # noqa: S311 - agents started together drift apart
        return token.expires_in_s * self._timing.refresh_at * jitter

    # --- what is heard --------------------------------------------------------------------------

    def _note_ready(self, path: Path) -> None:
        now = anyio.current_time()
        judge = self._judges[path]
        is_news = not judge.is_ready
        judge.became_ready(now)
        self._wake(Cause.SWEEP)
        self._sweep_at = now + self._timing.sweep
        self._offer.confirm(path)
        if is_news:
            self._emit(PathReady(path, now - self._joined_at))
        if self.state is State.JOINING:
            self._ready_since = now
            self._enter(State.READY)

    def _note_heard(self, heard: Announced) -> None:
        now = anyio.current_time()
        if heard.kind is not Kind.PULSE:
            self._wake(Cause.PUSH)  # first of all: nothing may delay the claim
        if heard.kind is Kind.WAKEUP:
            self._heed()
        if heard.kind is Kind.PULSE and self._beat_sent_at is not None:
            heard = replace(heard, latency_s=now - self._beat_sent_at)
            self._beat_sent_at = None
        judge = self._judges[heard.path]
        cures = judge.cures
        if judge.heard(now, heard.provision_id):
            self._emit(PathHealed(heard.path, cures))
        self._emit(heard)

    def _look_again(self) -> None:
        if self._session is not None:
            self._session.changed.set()

    # --- states ---------------------------------------------------------------------------------

    async def _wait_for_tokens(self) -> None:
        if self.state is not State.OFF:
            self._enter(
                State.OFF,
                "the control plane has no JWT secret to make a listening token from",
                self._timing.no_token,
            )
        await self._restart.wait(self._timing.no_token)

    async def _back_off(self, reason: str, *, is_rate_limit: bool = False) -> None:
        if await self._restart.wait(0):
            return  # it failed because it was told to
        ready_s = max(0.0, anyio.current_time() - self._ready_since)
        self._ready_since = math.inf
        delay_s = self._patience.next_s(ready_s=ready_s, is_rate_limit=is_rate_limit)
        self._enter(State.BACKOFF, reason, delay_s)
        await self._restart.wait(delay_s)

    def _enter(self, state: State, reason: str = "", delay_s: float = 0.0) -> None:
        self.state = state
        self._emit(StateChanged(state, reason, self.sessions, delay_s))

    def _emit(self, event: PushEvent) -> None:
        try:
            self._on_event(event)
        except Exception:  # noqa: BLE001 - whoever looks on must not make the agent deaf
            _log.exception("realtime: observing %s", event)


def _told(exc: Exception) -> str:
    while isinstance(exc, ExceptionGroup):
        exc = exc.exceptions[0]
    return f"{type(exc).__name__}: {exc}"
