"""Does push work here, and if not, why? Asked once, for a person, through the listener itself."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import anyio

from tendril_rt.control.listener import Listener, Timing
from tendril_rt.control.push import Path, PathReady, PathRefused, PushEvent, State, StateChanged
from tendril_rt.model import RealtimeToken
from tendril_rt.settings import ControlSettings


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of one path: it works, or why not."""

    works: bool
    why: str


async def diagnose(
    settings: ControlSettings,
    *,
    fetch_token: Callable[[], Awaitable[RealtimeToken | None]],
    within_s: float = 30.0,
    timing: Timing | None = None,
) -> Mapping[Path, Finding]:
    """Listen until each path is ready or known not to be, or *within_s* seconds have passed.

    A path works when the server says that it delivers; whether something comes is seen only by an
    agent that sends heartbeats.

    Cancellation: safe; nothing is left.
    """
    findings = {
        path: Finding(False, f"no answer within {within_s:g} s; the server may be starting")
        for path in Path
    }
    unknown = set(Path)

    def conclude(path: Path, works: bool, why: str) -> None:
        if path in unknown:
            findings[path] = Finding(works, why)
            unknown.remove(path)

    with anyio.move_on_after(within_s) as scope:

        def note(event: PushEvent) -> None:
            match event:
                case PathReady(path, after_s):
                    conclude(path, True, f"ready after {after_s:.1f} s")
                case PathRefused(path, reason):
                    conclude(path, False, f"{reason}{_ADVICE.get(path, '')}")
                case StateChanged(State.BACKOFF | State.OFF as state, reason):
                    for path in tuple(unknown):
                        conclude(path, False, f"{reason}{_ADVICE.get(state, '')}")
                case _:
                    pass
            if not unknown:
                scope.cancel()

        await Listener(
            settings,
            fetch_token=fetch_token,
            wake=lambda _: None,
            on_event=note,
            timing=timing,
        ).run()
    return findings


_ADVICE: Mapping[Path | State, str] = {
    Path.BROADCAST: (
        ". If the schema realtime was installed after the migrations, run: "
        "select tendril_private.attach_realtime()"
    ),
    Path.CHANGES: ". Is public.provisions in the publication supabase_realtime?",
    State.OFF: ". Store it once: select tendril_private.set_jwt_secret('...')",
}
