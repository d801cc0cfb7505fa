"""The health port and the watchdog over real sockets, also while the event loop is stuck."""

import json
import logging
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tendril_rt.agent import health
from tendril_rt.agent.correlation import correlated, fields
from tendril_rt.agent.health import Answer, serving, verdict_page, watched
from tendril_rt.agent.vitals import TICK_S, Vitals
from tendril_rt.control.owner import Owner, Registration
from tendril_rt.control.push import Cause
from tendril_rt.errors import ConfigError
from tests.conftest import RunningPlane
from tests.integration.agents import Agent, Fleet, ended, snapshot, template_repo

pytestmark = pytest.mark.integration

_HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{_HOST}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - http
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


# --- the port -------------------------------------------------------------------------------------


@pytest.fixture
def port() -> Iterator[int]:
    vitals = Vitals()
    pages = {
        "/livez": verdict_page(vitals.alive),
        "/readyz": verdict_page(vitals.ready),
        "/broken": lambda: Answer(1 // 0, "", b""),
    }
    with serving(_HOST, 0, pages) as number:
        yield number


def test_a_page_says_why(port: int) -> None:
    status, body = fetch(port, "/livez")
    assert status == 200
    assert json.loads(body)["why"] == "the event loop turns"
    status, body = fetch(port, "/readyz?verbose")
    assert status == 503
    assert json.loads(body) == {
        "ok": False,
        "why": "no heartbeat was accepted yet; see the agent's log",
        "heartbeat_age_s": None,
        "draining": False,
    }


def test_only_what_is_there_can_be_had_and_nothing_be_sent(port: int) -> None:
    assert fetch(port, "/")[0] == 404
    assert "/livez" in fetch(port, "/etc/passwd")[1]
    assert fetch(port, "/livez", "HEAD") == (200, "")
    assert fetch(port, "/livez", "POST")[0] == 501


def test_a_page_that_fails_is_logged_and_the_next_is_served(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(OSError, match="without response"):
        fetch(port, "/broken")
    assert fetch(port, "/livez")[0] == 200
    assert "ZeroDivisionError" in caplog.text


def test_askers_that_say_nothing_keep_nobody_else_waiting_for_long(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health._Handler, "timeout", 0.3)
    silent = [socket.create_connection((_HOST, port)) for _ in range(20)]
    try:
        deadline = time.monotonic() + 5
        while True:
            try:
                status, _ = fetch(port, "/livez")
                break
            except OSError:  # every connection is taken until the silent ones are hung up on
                assert time.monotonic() < deadline
    finally:
        for connection in silent:
            connection.close()
    assert status == 200


def test_the_port_closes_with_its_block_also_under_a_slow_answer() -> None:
    asked, over = threading.Event(), threading.Event()

    def late() -> Answer:
        asked.set()
        over.wait(10)
        return Answer(200, "text/plain", b"late")

    with (
        serving(_HOST, 0, {"/slow": late}) as number,
        socket.create_connection((_HOST, number)) as asker,
    ):
        asker.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        assert asked.wait(5)
    over.set()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((_HOST, number))
    assert not [thread.name for thread in threading.enumerate() if thread.name == "tendril-health"]


def test_a_port_that_is_taken_is_a_fault_of_the_settings(port: int) -> None:
    refused = pytest.raises(ConfigError, match=f"cannot listen on {_HOST} port {port}")
    with refused, serving(_HOST, port, {}):
        pass


def test_it_listens_on_ipv6_too() -> None:
    with (
        serving("::1", 0, {"/x": lambda: Answer(200, "text/plain", b"six")}) as number,
        socket.create_connection(("::1", number)) as asker,
    ):
        asker.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        assert asker.makefile("rb").read().endswith(b"six")


# --- the watchdog ---------------------------------------------------------------------------------


def block_the_loop_until(event: threading.Event) -> None:
    assert event.wait(10)


async def test_a_stuck_loop_is_seen_from_outside_and_its_stack_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tendril_rt.agent.vitals.STUCK_AFTER_S", 0.3)
    vitals = Vitals()
    seen: list[tuple[int, str]] = []
    free = threading.Event()

    def look(port: int) -> None:
        """Free the loop only after both the port and the watchdog have told of it."""
        while not seen or "has been stuck" not in caplog.text:
            answer = fetch(port, "/livez")
            if answer[0] == 503:
                seen.append(answer)
        free.set()

    with serving(_HOST, 0, {"/livez": verdict_page(vitals.alive)}) as port:
        async with watched(vitals, complain_after_s=0.2):
            looker = threading.Thread(target=look, args=(port,))
            looker.start()
            block_the_loop_until(free)
            with anyio.fail_after(5):
                while "turns again" not in caplog.text:  # noqa: ASYNC110 - another thread's log
                    await anyio.sleep(0.01)
            looker.join()
            status, _ = await anyio.to_thread.run_sync(fetch, port, "/livez")
    assert status == 200
    assert "the event loop has been stuck for" in seen[0][1]
    assert "in block_the_loop_until" in caplog.text
    assert caplog.text.count("it stands at") == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]


async def test_the_watchdog_speaks_with_the_fields_of_its_agent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    carried: list[object] = []

    class Look(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            carried.append(fields().get("agent"))
            return True

    logger = logging.getLogger("tendril_rt.agent.health")
    look = Look()
    logger.addFilter(look)
    try:
        with correlated(agent="a1"):
            async with watched(Vitals(), complain_after_s=0.1):
                while not carried:  # the loop does not turn meanwhile
                    time.sleep(0.01)  # noqa: ASYNC251 - that is the point
    finally:
        logger.removeFilter(look)
    assert carried[0] == "a1"


async def test_a_loop_that_turns_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    vitals = Vitals()
    async with watched(vitals, complain_after_s=TICK_S * 1.5):
        with anyio.move_on_after(TICK_S * 1.8):  # longer than the limit: the ticks keep it quiet
            await anyio.sleep_forever()
    assert caplog.text == ""
    assert not [t.name for t in threading.enumerate() if t.name == "tendril-watchdog"]


# --- an agent -------------------------------------------------------------------------------------


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> Fleet:
    return Fleet(plane, cluster, tmp_path)


@pytest.fixture
def open_port() -> int:
    return free_port()


@pytest.fixture
def agent(fleet: Fleet, open_port: int) -> Iterator[Agent]:
    with fleet.agent(TENDRIL_HEALTH_PORT=str(open_port), TENDRIL_LOG_FORMAT="json") as running:
        yield running


def metrics(port: int) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels, in order of their names."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(fetch(port, "/metrics")[1])
        for sample in family.samples
    }


async def test_an_agent_counts_what_it_did_and_answers_for_its_state(
    agent: Agent, open_port: int, user: Owner, cluster: Registration, tmp_path: Path
) -> None:
    repo = template_repo(tmp_path / "templates")
    await agent.says("online")
    await agent.says("READY")
    assert fetch(open_port, "/livez")[0] == 200
    assert fetch(open_port, "/readyz")[0] == 200
    provision_id = await user.create_provision(cluster.cluster_id, snapshot(repo))
    await ended(user, provision_id)
    await agent.says("SUCCESS")
    shown = metrics(open_port)
    assert shown["tendril_provisions_total", "success"] == 1
    assert shown["tendril_provisions_running",] == 0
    assert [shown["tendril_step_duration_seconds_count", s] for s in ("init", "plan", "apply")] == [
        1,
        1,
        1,
    ]
    assert shown["tendril_rpcs_total", "ok", "finish"] == 1
    assert shown["tendril_rpcs_total", "ok", "heartbeat"] >= 2  # the first, and the apply's
    log = await user.logs(provision_id, attempt=1, after_seq=-1)
    assert shown["tendril_log_delivered_chunks_total",] == len(log)
    assert shown["tendril_log_delivered_bytes_total",] == sum(len(r.text.encode()) for r in log)
    assert shown["tendril_log_lost_bytes_total",] == 0
    assert sum(shown["tendril_claims_total", cause] for cause in Cause) == 1
    assert shown["tendril_realtime_state", "READY"] == 1
    assert shown["tendril_dispatch_latency_seconds_count", "push"] <= 1
    assert 0 <= shown["tendril_heartbeat_age_seconds",] < 60

    records = [json.loads(line) for line in agent.log.splitlines()]
    of_attempt = [record for record in records if record.get("provision") == provision_id]
    assert {record["attempt"] for record in of_attempt} == {1}
    assert [record["message"] for record in of_attempt][-1].endswith("SUCCESS")
    assert {record["cluster"] for record in records} == {cluster.cluster_id}
    assert len({record["agent"] for record in records}) == 1


async def test_an_agent_without_a_control_plane_is_alive_but_not_ready(
    fleet: Fleet, open_port: int
) -> None:
    nobody = f"http://{_HOST}:{free_port()}"
    with fleet.agent(TENDRIL_HEALTH_PORT=str(open_port), SUPABASE_URL=nobody) as agent:
        await agent.says("cannot reach the control plane")
        assert fetch(open_port, "/livez")[0] == 200
        status, body = fetch(open_port, "/readyz")
        assert (status, json.loads(body)["ok"]) == (503, False)
        assert metrics(open_port)["tendril_rpcs_total", "unavailable", "heartbeat"] >= 1


async def test_two_agents_cannot_share_a_port(fleet: Fleet, agent: Agent, open_port: int) -> None:
    await agent.says("online")
    with fleet.agent("second", TENDRIL_HEALTH_PORT=str(open_port)) as second:
        assert await second.exit_code() == 1
        assert f"cannot listen on {_HOST} port {open_port}" in second.log


def listening(pid: int) -> set[str]:
    """Return the inodes of the TCP sockets on which a process listens."""
    tables = [Path(f"/proc/{pid}/net/{table}").read_text() for table in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table.splitlines()[1:]]
    anyones = {row[9] for row in rows if row[3] == "0A"}
    mine = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    return {inode for inode in anyones if f"socket:[{inode}]" in mine}


async def test_without_a_setting_no_port_is_opened(
    fleet: Fleet, agent: Agent, open_port: int
) -> None:
    await agent.says("online")
    assert len(listening(agent.process.pid)) == 1
    with fleet.agent("second") as second:
        await second.says("online")
        assert listening(second.process.pid) == set()


def test_without_a_port_nobody_pays_for_metrics() -> None:
    program = "import sys, tendril_rt.cli.run; print('prometheus_client' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
