"""``tendril run``: be an agent."""

import functools
import logging as log
import os
import resource
import sys

import anyio

from tendril_rt.agent.events import AttemptEnded
from tendril_rt.agent.service import Shutdown, serve
from tendril_rt.aio.signals import on_stop_signals
from tendril_rt.cli import itself, logging
from tendril_rt.cli.opaque import who_shows
from tendril_rt.errors import ConfigError
from tendril_rt.model import Status
from tendril_rt.settings import Settings, from_env

_EXIT_NOT_SUCCESS = 3
_EXIT_LEFT = 4
#: An allowance: an idle agent was seen to hold 17 descriptors, an attempt 9 more at most.
_IDLE_FILES, _FILES_PER_ATTEMPT = 40, 20

_log = log.getLogger(__name__)


def run(*, once: bool, is_opaque: bool) -> int:
    """Run until drained; settings come from the environment (docs/settings.md).

    :param once: claim one provision and end with it. Then the answer is 0 for SUCCESS, or when told
        to end before there was one; 3 for FAILED or CANCELLED, which is reported; 4 if the outcome
        was left to the control plane
    :param is_opaque: see :func:`tendril_rt.cli.opaque.become_opaque`
    :raises TendrilError: what cannot be mended by waiting
    """
    try:
        settings = from_env(os.environ)
    except ConfigError as exc:
        print("tendril run: the settings need attention:", file=sys.stderr)
        for problem in exc.problems:
            print(f"  - {problem}", file=sys.stderr)
        return 2
    control, agent = settings.control, settings.agent
    logging.configure(
        agent.log_level, agent.log_format, secrets=(control.api_token, control.api_key)
    )
    _check_descriptors(agent.capacity)
    _check_secrecy(control.api_token, is_opaque=is_opaque)
    last = _Last()
    anyio.run(functools.partial(_run, settings, last, once=once))
    return last.exit_code if once else 0


class _Last:
    """Remembers how the last attempt ended."""

    exit_code = 0

    def observe(self, event: object) -> None:
        if isinstance(event, AttemptEnded):
            known = {Status.SUCCESS: 0, None: _EXIT_LEFT}
            self.exit_code = known.get(event.status, _EXIT_NOT_SUCCESS)


async def _run(settings: Settings, last: _Last, *, once: bool) -> None:
    shutdown = Shutdown()
    async with anyio.create_task_group() as tasks:
        drain, interrupt = shutdown.request_drain, shutdown.request_interrupt
        await tasks.start(
            functools.partial(on_stop_signals, drain, interrupt, echo_s=itself.signal_echo_s())
        )
        await serve(settings, os.environ, shutdown, once=once, on_event=last.observe)
        tasks.cancel_scope.cancel()


def _check_descriptors(capacity: int) -> None:
    """Take as many open files as are allowed; warn where they do not suffice for *capacity*."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _IDLE_FILES + capacity * _FILES_PER_ATTEMPT
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < needed:
        _log.warning(
            "only %d files may be open (RLIMIT_NOFILE), but TENDRIL_CAPACITY %d may need %d: raise "
            "the limit (ulimit -n) or lower the capacity",
            allowed,
            capacity,
            needed,
        )


def _check_secrecy(token: str, *, is_opaque: bool) -> None:
    """Warn where a template could read *token* although no child is given it."""
    if not is_opaque:
        _log.warning("templates can read this process's memory: this system has no PR_SET_DUMPABLE")
    for shower in who_shows(token):
        _log.warning(
            "templates can read TENDRIL_API_TOKEN from the environment of %s: make its program "
            "unreadable to this user (chmod 0711, owned by root), or start the agent otherwise "
            "(docs/threat-model.md)",
            shower,
        )
