"""``tendril run``: be an agent."""

import os
import sys

import anyio

from tendril_rt.agent.service import Shutdown, serve
from tendril_rt.aio.signals import on_stop_signals
from tendril_rt.cli import logging
from tendril_rt.errors import ConfigError
from tendril_rt.settings import Settings, from_env


def run() -> int:
    """Run until drained; settings come from the environment (docs/settings.md).

    :raises TendrilError: what cannot be mended by waiting
    """
    try:
        settings = from_env(os.environ)
    except ConfigError as exc:
        print("tendril run: the settings need attention:", file=sys.stderr)
        for problem in exc.problems:
            print(f"  - {problem}", file=sys.stderr)
        return 2
    logging.configure(settings.agent.log_level, settings.agent.log_format)
    anyio.run(_run, settings)
    return 0


async def _run(settings: Settings) -> None:
    shutdown = Shutdown()
    async with anyio.create_task_group() as tasks:
        await tasks.start(on_stop_signals, shutdown.request_drain, shutdown.request_interrupt)
        await serve(settings, os.environ, shutdown)
        tasks.cancel_scope.cancel()
