"""``tendril doctor``: finds what is broken, names the cure, and disturbs nobody."""

import json
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web

from tendril_rt.control.owner import Owner, Registration
from tests.conftest import TENDRIL, RunningPlane
from tests.integration.agents import Fleet

pytestmark = pytest.mark.integration

Checks = dict[str, list[Mapping[str, str]]]


@pytest.fixture
def env(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "agent").mkdir()
    environ = Fleet(plane, cluster, tmp_path).environment("agent")
    environ.pop("TF_CLI_CONFIG_FILE", None)
    environ.pop("TF_PLUGIN_CACHE_DIR", None)
    return environ


async def doctor(env: Mapping[str, str], *prefix: str) -> tuple[int, Checks]:
    """Run the command; return its exit code and its findings by check."""
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [*prefix, *TENDRIL, "doctor", "--json"], env=env, capture_output=True, text=True
        )
    )
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer["ok"] is (done.returncode == 0)
    found: Checks = {}
    for finding in answer["checks"]:
        assert (finding["level"] == "ok") is (finding["cure"] is None), finding
        found.setdefault(finding["check"], []).append(finding)
    assert env.get("TENDRIL_API_TOKEN", "no token") not in done.stdout
    assert env.get("SUPABASE_KEY", "no key") not in done.stdout
    return done.returncode, found


def faults(found: Checks) -> set[str]:
    """Return the checks that failed."""
    return {name for name, all_of in found.items() if any(f["level"] == "fail" for f in all_of)}


def files_below(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def text_of(found: Checks, check: str) -> str:
    return " ".join(f"{finding['found']} → {finding['cure']}" for finding in found[check])


# --- all is well ----------------------------------------------------------------------------------


async def test_where_all_is_well_everything_is_ok(env: dict[str, str]) -> None:
    code, found = await doctor(env)
    assert code == 0
    assert {finding["level"] for all_of in found.values() for finding in all_of} == {"ok"}
    assert [*found] == [
        *("settings", "dns", "tcp", "tls", "rest", "key", "token", "clock", "schema", "realtime"),
        *("git", "terraform", "state", "workspaces"),
    ]
    assert files_below(Path(env["TENDRIL_STATE_DIR"]).parent) == []


async def test_for_people_it_says_what_to_fix_and_how_many(env: dict[str, str]) -> None:
    env["TENDRIL_TERRAFORM"] = "no-such-program"
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run([*TENDRIL, "doctor"], env=env, capture_output=True, text=True)
    )
    assert done.returncode == 1
    assert "FAIL terraform" in done.stdout
    assert "→ install it" in done.stdout
    assert done.stdout.endswith("1 to fix, 0 to look at\n")


async def test_it_disturbs_no_agent_on_the_same_folders(
    plane: RunningPlane, cluster: Registration, user: Owner, tmp_path: Path
) -> None:
    fleet = Fleet(plane, cluster, tmp_path)
    with fleet.agent() as agent:
        for path in ("broadcast", "postgres_changes"):
            await agent.says(f"{path} is ready")
        before = agent.log
        files = files_below(tmp_path)
        code, found = await doctor(fleet.environment("agent"))
        assert code in (0, 1)
        assert faults(found) <= {"terraform"}
        assert f"process {agent.process.pid}" in text_of(found, "state")
        assert agent.process.poll() is None
        assert agent.log == before
        assert files_below(tmp_path) == files
    code, found = await doctor(fleet.environment("agent"))
    assert "no agent uses it" in text_of(found, "state")


async def test_it_does_not_bring_a_cluster_online(
    env: dict[str, str], user: Owner, cluster: Registration
) -> None:
    await doctor(env)
    assert await user.cluster_status(cluster.cluster_id) == "PENDING"


# --- settings -------------------------------------------------------------------------------------


async def test_every_illegal_setting_is_a_line(env: dict[str, str]) -> None:
    del env["SUPABASE_KEY"]
    env["TENDRIL_GRACE_S"] = "30"
    code, found = await doctor(env)
    assert code == 1
    assert [finding["found"].split()[0] for finding in found["settings"]] == [
        "SUPABASE_KEY",
        "TENDRIL_GRACE_S",
    ]
    assert [*found] == ["settings"]


async def test_a_misspelt_setting_is_a_warning_with_the_nearest(env: dict[str, str]) -> None:
    env["TENDRIL_CAPCITY"] = "3"
    code, found = await doctor(env)
    assert code == 0
    assert "did you mean TENDRIL_CAPACITY?" in text_of(found, "settings")


# --- the network ----------------------------------------------------------------------------------


async def test_a_wrong_key_is_told_from_a_wrong_token(env: dict[str, str]) -> None:
    code, found = await doctor(env | {"SUPABASE_KEY": "not-the-key"})
    assert (code, faults(found)) == (1, {"key"})
    code, found = await doctor(env | {"TENDRIL_API_TOKEN": "tendril_wrong"})
    assert (code, faults(found)) == (1, {"token"})
    assert found["key"][0]["level"] == "ok"
    assert "rotate the token" in text_of(found, "token")


async def test_an_unknown_host_is_a_matter_of_dns(env: dict[str, str]) -> None:
    code, found = await doctor(env | {"SUPABASE_URL": "https://no-such-host.invalid"})
    assert code == 1
    assert faults(found) == {"dns"}
    assert "tcp" not in found


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_closed_port_is_a_matter_of_tcp(env: dict[str, str]) -> None:
    code, found = await doctor(env | {"SUPABASE_URL": f"http://127.0.0.1:{_closed_port()}"})
    assert (code, faults(found)) == (1, {"tcp"})
    assert "refused" in text_of(found, "tcp")


async def test_the_way_through_a_proxy_is_shown_without_its_password(env: dict[str, str]) -> None:
    port = _closed_port()
    env |= {
        "SUPABASE_URL": "https://acme.supabase.co",
        "https_proxy": f"http://jane:hunter22@127.0.0.1:{port}",
        "HTTPS_PROXY": f"http://jane:hunter22@127.0.0.1:{port}",
        "NO_PROXY": "",
        "no_proxy": "",
    }
    code, found = await doctor(env)
    assert (code, faults(found)) == (1, {"tcp"})
    assert f"http://127.0.0.1:{port}, by the environment" in text_of(found, "proxy")
    assert "hunter22" not in json.dumps(found)


async def test_what_cannot_be_checked_is_a_finding_and_no_crash(env: dict[str, str]) -> None:
    env |= {"https_proxy": "gopher://127.0.0.1:1", "HTTPS_PROXY": "gopher://127.0.0.1:1"}
    env |= {"NO_PROXY": "", "no_proxy": ""}
    code, found = await doctor(env | {"SUPABASE_URL": "https://acme.supabase.co"})
    assert code == 1
    assert found["git"][0]["level"] == "ok"


@asynccontextmanager
async def answering(status: int, body: object, **headers: str) -> AsyncIterator[str]:
    """Serve one answer to everything; yield the URL."""

    async def answer(_: web.Request) -> web.Response:
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html", headers=headers)
        return web.json_response(body, status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        with anyio.move_on_after(3, shield=True):
            await runner.cleanup()


async def test_a_login_page_is_not_taken_for_the_control_plane(env: dict[str, str]) -> None:
    async with answering(200, "<html>please sign in</html>") as url:
        code, found = await doctor(env | {"SUPABASE_URL": url})
    assert (code, faults(found)) == (1, {"rest"})
    assert "please sign in" in text_of(found, "rest")
    assert "login page" in text_of(found, "rest")


async def test_missing_migrations_are_told_from_a_wrong_key(env: dict[str, str]) -> None:
    missing = {"code": "PGRST202", "message": "Could not find the function", "hint": None}
    async with answering(404, missing) as url:
        code, found = await doctor(env | {"SUPABASE_URL": url})
    assert (code, faults(found)) == (1, {"schema"})
    assert "grape migrate" in text_of(found, "schema")


async def test_an_older_schema_is_named_function_by_function(env: dict[str, str]) -> None:
    # A token for everybody: so the other functions, which must refuse nobody's hash, are not ours.
    async with answering(200, {"token": "x.y.z", "expires_in_s": 60}) as url:
        code, found = await doctor(env | {"SUPABASE_URL": url, "TENDRIL_REALTIME": "false"})
    assert (code, faults(found)) == (1, {"schema"})
    assert "fetch_next_provision (200)" in text_of(found, "schema")
    assert found["realtime"][0]["level"] == "warn"


async def test_a_paused_project_is_a_matter_of_its_database(env: dict[str, str]) -> None:
    async with answering(503, {"code": "PGRST002", "message": "no schema cache"}) as url:
        code, found = await doctor(env | {"SUPABASE_URL": url})
    assert (code, faults(found)) == (1, {"rest"})
    assert "paused" in text_of(found, "rest")


@pytest.mark.parametrize(("ahead_s", "level"), [(60, "warn"), (-60, "warn"), (900, "fail")])
async def test_a_clock_that_is_off_is_told(env: dict[str, str], ahead_s: int, level: str) -> None:
    theirs = format_datetime(datetime.now(UTC) - timedelta(seconds=ahead_s), usegmt=True)
    refused = {"code": "PT401", "message": "no"}
    async with answering(401, refused, Date=theirs) as url:
        _, found = await doctor(env | {"SUPABASE_URL": url})
    [finding] = found["clock"]
    assert finding["level"] == level
    assert ("ahead of" if ahead_s > 0 else "behind") in finding["found"]


# --- TLS ------------------------------------------------------------------------------------------


def _certificate(folder: Path, name: str, *more: str) -> ssl.SSLContext:
    """Make a certificate that signs itself; return a server's context with it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", *more),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@dataclass
class TlsServer:
    """Serves each connection with *context*; with none it speaks something else than TLS."""

    listener: socket.socket
    context: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        """Serve until the listener is shut down."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                if self.context is None:
                    connection.sendall(b"220 mail.example SMTP\r\n")
                    continue
                try:
                    self.context.wrap_socket(connection, server_side=True).close()
                except OSError:
                    continue  # the asker did not like it, which is what is tested


@pytest.fixture
def tls_server() -> Iterator[TlsServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = TlsServer(listener)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        yield server
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


async def test_faults_of_certificates_are_told_apart(
    env: dict[str, str], tls_server: TlsServer, tmp_path: Path
) -> None:
    env["SUPABASE_URL"] = tls_server.url
    tls_server.context = _certificate(tmp_path, "localhost")
    code, found = await doctor(env)
    assert (code, faults(found)) == (1, {"tls"})
    assert "it signs itself" in text_of(found, "tls")
    assert "SSL_CERT_FILE" in text_of(found, "tls")

    trusted = env | {"SSL_CERT_FILE": str(tmp_path / "certificate.pem")}
    code, found = await doctor(trusted)
    assert found["tls"][0]["level"] == "ok"
    assert "TLSv1.3" in text_of(found, "tls")
    assert faults(found) == {"rest"}  # it speaks TLS, and hangs up

    tls_server.context = _certificate(tmp_path, "elsewhere.example")
    code, found = await doctor(trusted)
    assert "it is for another name" in text_of(found, "tls")

    tls_server.context = None
    code, found = await doctor(trusted)
    assert faults(found) == {"tls"}
    assert "is there TLS on that port" in text_of(found, "tls")


# --- the host -------------------------------------------------------------------------------------


async def test_missing_programs_are_named(env: dict[str, str], tmp_path: Path) -> None:
    env["PATH"] = str(tmp_path)
    code, found = await doctor(env)
    assert (code, faults(found)) == (1, {"git", "terraform"})
    assert "not on the agent's PATH" in text_of(found, "terraform")


async def test_a_folder_that_cannot_be_written_is_named(env: dict[str, str]) -> None:
    os.mkdir(env["TENDRIL_STATE_DIR"], mode=0o500)
    # As root too: without its capabilities it is a user like others.
    plain = ("setpriv", "--bounding-set=-all", "--inh-caps=-all") if os.geteuid() == 0 else ()
    code, found = await doctor(env, *plain)
    assert (code, faults(found)) == (1, {"state"})
    assert "Permission denied" in text_of(found, "state")
    assert "TENDRIL_STATE_DIR" in text_of(found, "state")


async def test_a_file_in_place_of_a_folder_is_named(env: dict[str, str]) -> None:
    os.mknod(env["TENDRIL_WORKSPACE_DIR"])
    code, found = await doctor(env)
    assert (code, faults(found)) == (1, {"workspaces"})


async def test_a_state_folder_that_others_may_read_is_a_warning(env: dict[str, str]) -> None:
    os.mkdir(env["TENDRIL_STATE_DIR"], mode=0o755)
    code, found = await doctor(env)
    assert code == 0
    assert "chmod 700" in text_of(found, "state")


async def test_files_that_terraform_would_need_are_looked_for(
    env: dict[str, str], tmp_path: Path
) -> None:
    env["TF_PLUGIN_CACHE_DIR"] = str(tmp_path / "no-cache")
    env["TF_CLI_CONFIG_FILE"] = str(tmp_path / "no-file")
    _, found = await doctor(env)
    assert [finding["level"] for finding in found["terraform"]] == ["ok", "warn", "fail"]
