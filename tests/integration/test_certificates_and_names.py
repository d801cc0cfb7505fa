"""TLS and DNS that fail in mid-apply: the apply goes on, and everything is delivered afterwards.

The control plane is reached by a name of its own through a proxy that speaks TLS. The agent runs in
a mount namespace with hosts and resolver files of the test's own.
"""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tendril_rt.control.owner import Owner, Registration
from tendril_rt.model import Status, StreamType
from tests.chaos.proxy import Mode, Proxy, proxying
from tests.conftest import RunningPlane
from tests.integration.agents import Fleet, ended, eventually, log_text, snapshot, template_repo
from tests.integration.certificates import Authority

pytestmark = [pytest.mark.integration, pytest.mark.long]

_HOST = "plane.test"
_LINES = 60
#: Nobody answers at this resolver, and that is known at once.
_RESOLVER = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n"
_IN_A_NAMESPACE = """
mount --bind "$HOSTS" /etc/hosts && mount --bind "$RESOLVER" /etc/resolv.conf && exec "$@"
"""


@dataclass
class Way:
    """How the agent gets to the control plane."""

    proxy: Proxy
    authority: Authority
    strangers: Authority
    hosts: Path

    def is_known(self, known: bool) -> None:
        """Let the name of the control plane resolve, or not."""
        self.hosts.write_text(f"127.0.0.1 localhost {_HOST if known else ''}\n")

    def mend(self) -> None:
        self.is_known(True)
        self.proxy.tls = self.authority.server(_HOST)

    def interrupt(self) -> None:
        """Reset every connection, so that new ones are needed."""
        self.proxy.become(Mode.CUT)
        self.proxy.become(Mode.PASS)


def _expires(way: Way) -> None:
    way.proxy.tls = way.authority.server(_HOST, days_left=-1)


def _is_a_strangers(way: Way) -> None:
    way.proxy.tls = way.strangers.server(_HOST)


def _has_another_name(way: Way) -> None:
    way.proxy.tls = way.authority.server("elsewhere.test")


def _speaks_no_tls(way: Way) -> None:
    way.proxy.tls = None


def _has_no_address(way: Way) -> None:
    way.is_known(False)


@asynccontextmanager
async def _way(plane: RunningPlane, folder: Path) -> AsyncIterator[Way]:
    authority, strangers = Authority(folder / "ours"), Authority(folder / "theirs")
    port = urlsplit(plane.url).port
    assert port is not None
    async with proxying(port, authority.server(_HOST)) as proxy:
        way = Way(proxy, authority, strangers, folder / "hosts")
        way.is_known(True)
        (folder / "resolver").write_text(_RESOLVER)
        yield way


def _namespace() -> list[str]:
    as_whom = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *as_whom, "--mount", "/bin/sh", "-c", _IN_A_NAMESPACE, "sh"]


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (_expires, "certificate has expired"),
        (_is_a_strangers, "unable to get local issuer certificate|self.signed certificate"),
        (_has_another_name, "certificate is not valid for|doesn't match"),
        (_speaks_no_tls, r"\[SSL"),
        (_has_no_address, "name resolution|Name or service not known"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
async def test_an_apply_outlives_it_and_nothing_is_lost(
    plane: RunningPlane,
    cluster: Registration,
    user: Owner,
    tmp_path: Path,
    fails: Callable[[Way], None],
    said: str,
) -> None:
    repo = template_repo(tmp_path / "templates")
    variables = {"name": "whole", "lines": _LINES, "pause_seconds": 0.03}
    async with _way(plane, tmp_path) as way:
        fleet = Fleet(plane, cluster, tmp_path, prefix=_namespace())
        with fleet.agent(
            HOSTS=str(way.hosts),
            RESOLVER=str(tmp_path / "resolver"),
            SSL_CERT_FILE=str(way.authority.file),
            SUPABASE_URL=f"https://{_HOST}:{way.proxy.port}",
            TENDRIL_POLL_INTERVAL_S="0.2",
            TENDRIL_HEARTBEAT_INTERVAL_S="1",
            TENDRIL_REQUEST_TIMEOUT_S="2",
        ) as agent:
            await agent.says("online")
            provision_id = await user.create_provision(
                cluster.cluster_id, snapshot(repo, terraform_vars=variables)
            )

            async def underway() -> bool | None:
                return "line 3 of" in await log_text(user, provision_id) or None

            await eventually(underway, "no output", lambda: agent.log)
            fails(way)
            way.interrupt()
            await agent.says(said)
            way.mend()
            state = await ended(user, provision_id)
            agent.signal(signal.SIGTERM)
            assert await agent.exit_code() == 0

    assert (state.status, state.attempt) == (Status.SUCCESS, 1), state.error_message
    text = await log_text(user, provision_id, StreamType.STDOUT)
    printed = [line for line in text.splitlines() if "whole: line" in line]
    assert [line.split("whole: ")[1] for line in printed] == [
        f"line {number} of {_LINES}" for number in range(1, _LINES + 1)
    ]
