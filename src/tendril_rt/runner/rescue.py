"""A state that Terraform could not store: kept first, stored again if the backend comes back.

``errored.tfstate`` lies in the workspace, which is removed; it names real resources that nothing
else knows of. It is pushed without force, so a newer state is never overwritten.
"""

import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from tendril_rt.errors import StepError
from tendril_rt.runner.terraform import Terraform

_TRIES = 3
_FIRST_PAUSE_S = 2.0  # then twice as long

_log = logging.getLogger(__name__)


async def rescue_state(
    terraform: Terraform, *, sleep: Callable[[float], Awaitable[None]] = anyio.sleep
) -> str | None:
    """Take care of what a failed apply left; return what to tell the owner, None if nothing.

    Cancellation: safe; the kept copy stays.
    """
    if not terraform.errored_state.exists():
        return None
    kept = terraform.stack.path / f"errored-{time.time_ns()}.tfstate"
    try:
        _copy(terraform.errored_state, kept)
    except OSError as exc:
        _log.error("cannot keep %s: %s", terraform.errored_state, exc)
        kept_or_why = f"nor kept by the agent ({exc.strerror or exc}): THE STATE IS LOST"
    else:
        kept_or_why = (
            f"It is kept in {kept} on the agent's host: put it back with 'terraform state push' "
            "before the next run"
        )
    said = ""
    for number in range(1, _TRIES + 1):
        try:
            await terraform.push_state()
        except StepError as exc:
            said = str(exc)
        else:
            kept.unlink(missing_ok=True)
            return f"Terraform could not store the state at first; it was stored at try {number}"
        if number < _TRIES:
            await sleep(_FIRST_PAUSE_S * 2 ** (number - 1))
    return f"Terraform could not store the state ({said}). {kept_or_why}"


def _copy(source: Path, target: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with source.open("rb") as read, os.fdopen(os.open(target, flags, 0o600), "wb") as written:
        shutil.copyfileobj(read, written)
        written.flush()
        os.fsync(written.fileno())
