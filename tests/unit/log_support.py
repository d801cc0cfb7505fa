"""What the tests of the logs share: a spool of their own, and what is in it."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tendril_rt.logs import basin as basins
from tendril_rt.logs import folders
from tendril_rt.logs import spool as spools
from tendril_rt.logs.reader import FLUSH_BYTES, FLUSH_INTERVAL_S, Reader
from tendril_rt.logs.redact import Redactor
from tendril_rt.logs.segment import Progress
from tendril_rt.logs.segments import Allowance, Limits
from tendril_rt.logs.spool import Spool
from tendril_rt.model import AgentId, Chunk, Lease, ProvisionId, StreamType

LEASE = Lease(ProvisionId("0c6d6d6a-6a4f-4e0a-9a51-d21c44a3f3ab"), 1, AgentId("agent"))
EVERYTHING = {"max_bytes": 1 << 30, "max_chunks": 1 << 20}


def limits(max_bytes: int = 64 << 20, total_bytes: int = 1 << 30) -> Limits:
    return Limits(max_bytes, Allowance(total_bytes))


@contextmanager
def new_spool(folder: Path, allowed: Limits | None = None) -> Iterator[Spool]:
    """Open a new spool below *folder*."""
    with spools.create(folders.folder_of(folder, LEASE), LEASE, allowed or limits()) as spool:
        yield spool


@contextmanager
def reopened(folder: Path, allowed: Limits | None = None) -> Iterator[Spool]:
    """Open the spool below *folder* again."""
    with spools.reopen(folders.folder_of(folder, LEASE), allowed or limits()) as spool:
        yield spool


def say(spool: Spool, stream: StreamType, raw: bytes) -> None:
    """Append a chunk that no reader read."""
    spool.append(stream, [([raw], Progress())])


def chunks(spool: Spool, first_seq: int = 0) -> list[Chunk]:
    """Read everything from *first_seq* on."""
    read: list[Chunk] = []
    while batch := spool.read(first_seq + len(read), **EVERYTHING):
        read += batch
    return read


def contents(spool: Spool, first_seq: int = 0) -> list[tuple[StreamType, str]]:
    return [(chunk.stream, chunk.text) for chunk in chunks(spool, first_seq)]


def text_of(spool: Spool, stream: StreamType) -> str:
    return "".join(chunk.text for chunk in chunks(spool) if chunk.stream is stream)


def shown(raw: bytes | bytearray) -> str:
    """Return what the log shows of raw output without secrets."""
    return raw.replace(b"\0", b"").decode(errors="replace")


@contextmanager
def reading(
    spool: Spool,
    secrets: Iterable[bytes] = (),
    *,
    flush_bytes: int = FLUSH_BYTES,
    flush_interval_s: float = FLUSH_INTERVAL_S,
) -> Iterator[Reader]:
    """Make a reader into *spool*, with buffers of its own."""
    with ExitStack() as stack:
        basin = stack.enter_context(basins.in_memory())
        redactor = Redactor(secrets)
        yield Reader(
            spool, basin, redactor, flush_bytes=flush_bytes, flush_interval_s=flush_interval_s
        )
