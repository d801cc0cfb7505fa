"""The last step: wait for the first heartbeat of this very installation, or say why none came.

The installation is known by an id that the chart gives to its agent, so that an agent of before is
never taken for it.
"""

import time

import anyio

from tendril_rt.bootstrap import diagnosis
from tendril_rt.bootstrap.kubernetes import Kubernetes
from tendril_rt.bootstrap.plan import Narrator, Request
from tendril_rt.bootstrap.registration import Credentials
from tendril_rt.control.owner import Owner
from tendril_rt.errors import KubernetesError, NeverHeard, Unavailable

_POLL_S = 1.0


async def wait(
    request: Request,
    owner: Owner,
    kubernetes: Kubernetes,
    credentials: Credentials,
    narrator: Narrator,
) -> str:
    """Return the id of the first agent of the installation that the control plane heard.

    Cancellation: safe; the agent goes on starting.

    :raises NeverHeard: none within the request's time; with what pods, events and doctor say
    """
    began, why = time.monotonic(), ""
    with anyio.move_on_after(request.heartbeat_s):
        while True:
            try:
                agent = await _heard(owner, credentials)
                if agent is not None:
                    narrator.progress("")
                    return agent
                why = await diagnosis.in_short(kubernetes, request.namespace)
            except (Unavailable, KubernetesError) as exc:
                why = str(exc)
            passed_s = int(time.monotonic() - began)
            narrator.progress(f"  waiting for the agent's first heartbeat, {passed_s} s: {why}")
            await anyio.sleep(_POLL_S)
    narrator.progress("")
    narrator.note("no heartbeat: asking the cluster why")
    raise NeverHeard(
        f"no heartbeat of this installation within {request.heartbeat_s:g} s. The same command "
        "goes on waiting when it is run again.\n"
        + await diagnosis.in_full(kubernetes, request.namespace)
    )


async def _heard(owner: Owner, credentials: Credentials) -> str | None:
    cluster_id = credentials.cluster_id
    agents = await owner.inventory.installed_agents(cluster_id, credentials.install_id)
    if agents and await owner.cluster_status(cluster_id) == "ONLINE":
        return str(agents[0]["id"])
    return None
