"""Spools that no run writes to any more: delivered if they can be, else kept for a while and named.

Who wrote an attempt may deliver its log also after its end, so what a crashed agent left is worth
sending. Nothing here decides about a run; a spool whose run lives on belongs to whoever adopts it.
"""

import logging
import shutil
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from tendril_rt.errors import Rejected, SpoolError
from tendril_rt.logs import folders
from tendril_rt.logs import spool as spools
from tendril_rt.logs.segments import Limits
from tendril_rt.logs.shipper import ChunkSink, Shipper
from tendril_rt.model import Lease

_log = logging.getLogger(__name__)


class Sinks(Protocol):
    """Where the chunks of a lease go."""

    def __call__(self, lease: Lease) -> ChunkSink: ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one spool.

    :ivar chunks: how many the log has, in all
    :ivar is_complete: all of them are stored; the spool is gone
    """

    lease: Lease
    chunks: int
    is_complete: bool


async def deliver(folder: Path, limits: Limits, sinks: Sinks) -> Delivery:
    """Deliver what a spool without a run still holds, and remove it; keep it if it is refused.

    Waits for as long as the control plane is away: give it a deadline if there is something else to
    do. Cancellation: safe; what was delivered stays delivered, the rest stays on disk.

    :raises SpoolError: it cannot be read
    """
    with ExitStack() as stack:
        opened = spools.reopen(folder, limits)  # reads all of it
        spool = await anyio.to_thread.run_sync(stack.enter_context, opened)
        spool.close()
        shipper = Shipper(spool, sinks(spool.lease), on_cancel=lambda _: None)
        try:
            await shipper.run()
        except (Rejected, SpoolError) as exc:
            _log.warning(
                "%d chunks of the log of %s, attempt %d, are kept in %s: %s",
                spool.next_seq - spool.acked,
                spool.lease.provision_id,
                spool.lease.attempt,
                folder,
                exc,
            )
        done = Delivery(spool.lease, spool.next_seq, spool.acked == spool.next_seq)
    if done.is_complete:
        await anyio.to_thread.run_sync(folders.discard, folder)
    return done


def prune(
    spool_dir: Path,
    *,
    keep_s: float,
    max_bytes: int,
    in_use: Collection[Path] = (),
    now: float | None = None,
) -> int:
    """Remove old spools that could not be delivered; return how many bytes are kept in others.

    Blocks for as long as the disk takes: call it in a worker thread.

    :param keep_s: longest time since the last change, in seconds
    :param max_bytes: of all that are kept, the newest first
    :param in_use: folders of runs, which stay
    :param now: Unix time, for tests
    """
    at = time.time() if now is None else now
    kept_bytes = 0
    for folder in reversed(folders.all_in(spool_dir)):
        if folder in in_use:
            continue
        files = [file.stat() for file in folder.iterdir()]
        size = sum(file.st_size for file in files)
        age_s = at - max(file.st_mtime for file in files)
        if age_s <= keep_s and kept_bytes + size <= max_bytes:
            kept_bytes += size
            continue
        why = f"not changed for {age_s / 86400:.1f} days" if age_s > keep_s else "no room for it"
        _log.warning("removing the undelivered log %s (%d bytes): %s", folder, size, why)
        shutil.rmtree(folder, ignore_errors=True)
    return kept_bytes
