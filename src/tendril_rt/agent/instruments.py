"""An agent's instruments, put together: vitals, watchdog, metrics and the port that shows them."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from tendril_rt.agent.events import Observe
from tendril_rt.agent.health import Answer, serving, verdict_page, watched
from tendril_rt.agent.vitals import Vitals
from tendril_rt.settings import Settings


@asynccontextmanager
async def instruments(
    settings: Settings, *, terraform: str, on_event: Observe
) -> AsyncIterator[Observe]:
    """Watch the loop, open the health port where one is set; yield where events go.

    :param terraform: its version, as it says it
    :param on_event: is told everything too, after the instruments
    :raises ConfigError: the port cannot be listened on
    """
    vitals = Vitals()
    observers = [vitals.observe, on_event]
    async with watched(vitals):
        with ExitStack() as stack:
            if settings.agent.health_port:
                observers.insert(1, _open_port(settings, terraform, vitals, stack))
            yield _Fan(tuple(observers))


def _open_port(settings: Settings, terraform: str, vitals: Vitals, stack: ExitStack) -> Observe:
    # Imported late: without the port nobody needs it.
    from tendril_rt.agent.metrics import CONTENT_TYPE, Metrics, Places

    agent = settings.agent
    places = Places(agent.state_dir, settings.runner.workspace_dir, agent.state_dir / "spool")
    metrics = Metrics(vitals, places, capacity=agent.capacity, terraform=terraform)
    pages = {
        "/livez": verdict_page(vitals.alive),
        "/readyz": verdict_page(vitals.ready),
        "/metrics": lambda: Answer(200, CONTENT_TYPE, metrics.render()),
    }
    stack.enter_context(serving(agent.health_host, agent.health_port, pages))
    return metrics.observe


@dataclass(frozen=True, slots=True)
class _Fan:
    """Hands each event to every observer, in order."""

    observers: tuple[Observe, ...]

    def __call__(self, event: object) -> None:
        for observe in self.observers:
            observe(event)
