"""Following one provision to its end: its state, and its log in the order (attempt, seq).

What is stored is the truth and is read page by page; a wakeup only says when to look. So a lost,
doubled or late announcement changes nothing of what is shown. An attempt's log is whole once a
later attempt has begun, and the last one's before the final status is visible: the control plane
sees to both.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio

from tendril_rt.aio.wakeup import Wakeup
from tendril_rt.control.owner import LogRow, Owner, ProvisionState
from tendril_rt.errors import Rejected, Unavailable
from tendril_rt.model import ProvisionId

_LONGEST_PAUSE_S = 5.0  # while the control plane does not answer


@dataclass(frozen=True)
class Listener:
    """What is told of a followed provision, in order.

    :ivar on_state: its status or attempt has changed; called before that attempt's chunks
    :ivar on_chunk: the next chunk of its log
    :ivar on_outage: the control plane does not answer; it is asked again
    """

    on_state: Callable[[ProvisionState], None]
    on_chunk: Callable[[LogRow], None]
    on_outage: Callable[[Unavailable], None]


async def follow(
    owner: Owner,
    provision_id: ProvisionId,
    listener: Listener,
    *,
    news: Wakeup,
    interval_s: Callable[[], float],
) -> ProvisionState:
    """Tell *listener* all there is until the provision has ended; return how.

    Cancellation: safe; nothing is asked of the provision.

    :param news: set by whoever hears that something may have changed
    :param interval_s: longest wait for news, asked before each
    :raises Rejected: the provision does not exist for this owner, or the session has ended
    """
    shown: ProvisionState | None = None
    attempt, seq, failures = 0, -1, 0
    while True:
        try:
            state = await owner.provision(provision_id)
            if state is None:
                raise Rejected(f"there is no provision {provision_id} for this user")
            if shown is None or (state.status, state.attempt) != (shown.status, shown.attempt):
                shown = state
                if not state.status.is_terminal:
                    listener.on_state(state)
            async for row in chunks(owner, provision_id, attempt, seq, up_to=state.attempt):
                listener.on_chunk(row)
                attempt, seq = row.attempt, row.seq
            failures = 0
        except Unavailable as exc:
            listener.on_outage(exc)
            failures += 1
        else:
            if state.status.is_terminal:
                listener.on_state(state)
                return state
        pause_s = min(_LONGEST_PAUSE_S, interval_s() * 2.0**failures)
        await (anyio.sleep(pause_s) if failures else news.wait(pause_s))


async def chunks(
    owner: Owner, provision_id: ProvisionId, attempt: int = 0, seq: int = -1, *, up_to: int
) -> AsyncIterator[LogRow]:
    """Yield the stored chunks after (*attempt*, *seq*), through attempt *up_to*."""
    for number in range(max(1, attempt), up_to + 1):
        after_seq = seq if number == attempt else -1
        while rows := await owner.logs(provision_id, attempt=number, after_seq=after_seq):
            for row in rows:
                yield row
            after_seq = rows[-1].seq
