"""Hears by Realtime that one provision went on, for whoever follows it; never what.

Sessions follow one another as long as it listens; between them, and where a project offers no
Realtime, whoever follows looks by itself. Must never fail: following works without it.
"""

import logging
from typing import NoReturn

import anyio

from tendril_rt.aio.backoff import Backoff
from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control import realtime
from tendril_rt.control.channel import Door, of_provision
from tendril_rt.control.push import Announced, Path, SessionFailed
from tendril_rt.control.rest import TokenSource
from tendril_rt.errors import TendrilError
from tendril_rt.model import ProvisionId

_WITHIN_S = 10.0  # to connect, and to join
_HEARTBEAT_S = 25.0
_REPLY_S = 10.0
_TOKEN_S = 20.0  # how often the token is looked at
_BACKOFF_S = 1.0
_LONGEST_BACKOFF_S = 60.0

_log = logging.getLogger(__name__)


class News:
    """Listens for one provision.

    :param token: gives the owner's present token
    :ivar changed: set whenever something was announced, or may have been missed
    :ivar is_ready: the server says that it announces what changes
    """

    def __init__(self, door: Door, token: TokenSource, provision_id: ProvisionId) -> None:
        self._door = door
        self._token = token
        self._channel = of_provision(provision_id)
        self._backoff = Backoff(_BACKOFF_S, _LONGEST_BACKOFF_S, floor_s=_BACKOFF_S / 2)
        self.changed = Wakeup()
        self.is_ready = False

    async def listen(self) -> NoReturn:
        """Listen until cancelled. Cancellation: safe, within a few seconds."""
        while True:
            try:
                await self._hear()
            except TendrilError as exc:  # whoever follows meets the same, and says it
                _log.debug("no news by Realtime: %s", exc)
            finally:
                self.is_ready = False
            await anyio.sleep(self._backoff.next_s())

    async def _hear(self) -> None:
        """Live through one session.

        :raises TendrilError: it has ended, or cannot be had
        """
        token = await self._token()
        async with realtime.opened(
            self._door,
            self._channel,
            within_s=_WITHIN_S,
            on_ready=self._note_ready,
            on_heard=self._note_heard,
        ) as session:
            await session.join(token, within_s=_WITHIN_S)
            self.changed.set()  # rows that came while nobody listened
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_keep_beating, session)
                tasks.start_soon(self._keep_token_fresh, session, token)
                while session.fault is None:
                    await session.changed.wait()
                tasks.cancel_scope.cancel()
        raise session.fault or SessionFailed("the session has ended")

    async def _keep_token_fresh(self, session: realtime.Session, token: str) -> None:
        while True:
            await anyio.sleep(_TOKEN_S)
            try:
                fresh = await self._token()
            except TendrilError as exc:
                session.fail(str(exc))
                return
            if fresh != token:
                token = fresh
                await session.renew(token)

    def _note_ready(self, _: Path) -> None:
        self.is_ready = True
        self._backoff.reset()
        self.changed.set()  # rows between the join and now were not announced

    def _note_heard(self, _: Announced) -> None:
        self.changed.set()


async def _keep_beating(session: realtime.Session) -> None:
    await session.keep_beating(interval_s=_HEARTBEAT_S, reply_within_s=_REPLY_S)
