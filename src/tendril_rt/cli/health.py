"""``tendril health``: ask the agent beside it whether it lives; the check of a container.

Run with the agent's own settings, so that both speak of one port.
"""

import http.client
import sys
from collections.abc import Mapping

from tendril_rt.errors import ConfigError
from tendril_rt.settings import from_env

_TIMEOUT_S = 4.0  # less than checks allow, so that the reason is still printed
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what listens there is asked here


def health(environ: Mapping[str, str]) -> int:
    """Print what ``/livez`` says; return 0 if the agent lives, 1 if not, 2 for wrong settings."""
    try:
        agent = from_env(environ).agent
    except ConfigError as exc:
        return _complain(2, "; ".join(exc.problems))
    if not agent.health_port:
        return _complain(2, "TENDRIL_HEALTH_PORT is not set: there is no port to ask")
    host = _ANYWHERE.get(agent.health_host, agent.health_host)
    connection = http.client.HTTPConnection(host, agent.health_port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        said = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as exc:
        return _complain(1, f"no answer from {host} port {agent.health_port}: {exc}")
    finally:
        connection.close()
    print(said)
    return 0 if answer.status == http.client.OK else 1


def _complain(exit_code: int, why: str) -> int:
    print(f"tendril health: {why}", file=sys.stderr)
    return exit_code
