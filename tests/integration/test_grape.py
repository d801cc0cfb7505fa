"""grape's commands against a real control plane: what they print, refuse and leave behind."""

import json
import os
import signal
import subprocess
from pathlib import Path

import anyio
import httpx
import psycopg
import pytest

from tendril_rt.cli.account import Account
from tendril_rt.control.news import News
from tests.conftest import RunningPlane

from .agents import Fleet, eventually, snapshot, template_repo
from .grape_support import GRAPE, Grape, new_grape

pytestmark = pytest.mark.integration

EXACT = '{"template_source": {"repo": "https://example.org/x", "version": "v1"}, "terraform_vars": '
EXACT += '{"big": 12345678901234567, "long": 0.12345678901234567890123, "list": [1, 1.50]}}'


@pytest.fixture
def grape(plane: RunningPlane, tmp_path: Path) -> Grape:
    return new_grape(plane, tmp_path / "config").sign_in()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration that an agent would take."""
    file = tmp_path / "hello.json"
    file.write_text(json.dumps(snapshot("https://example.org/x")))
    return file


# --- clusters -------------------------------------------------------------------------------------


def test_a_cluster_is_added_shown_changed_and_its_tokens_rotated(grape: Grape) -> None:
    assert "you have no cluster yet: grape clusters add NAME" in grape("clusters", "list").err
    added = grape("clusters", "add", "edge", "--max-concurrency", "2")
    token = added.out.split("TENDRIL_API_TOKEN=")[1].strip()
    listed = grape("clusters", "list", "--json").json
    assert isinstance(listed, list)
    assert (listed[0]["name"], listed[0]["status"], listed[0]["max_concurrency"]) == (
        "edge",
        "PENDING",
        2,
    )
    assert grape("clusters", "set", "edge", "--drain", "--json").json == {
        "max_concurrency": 2,
        "drain": True,
        "changed": True,
    }
    rotated = grape("clusters", "rotate-token", "edge", "--json").json
    assert isinstance(rotated, dict)
    assert rotated["token"] != token
    third = grape("clusters", "rotate-token", "edge")
    assert (third.code, "two tokens are live already" in third.err) == (1, True)
    shown = grape("clusters", "show", "edge", "--json")
    described = shown.json
    assert isinstance(described, dict)
    assert token not in shown.out
    first = described["tokens"][0]["id"]
    assert grape("clusters", "revoke-token", first).err == "revoked\n"
    assert grape("clusters", "revoke-token", first).err == "it was revoked before\n"
    assert "revoked" in grape("clusters", "show", "edge").out


def test_the_old_token_ends_when_it_was_told_to(grape: Grape) -> None:
    grape.add_cluster("edge")
    assert grape("clusters", "rotate-token", "edge", "--old-expires-in", "0").code == 0
    assert "expired" in grape("clusters", "show", "edge").out


def test_two_of_one_name_are_told_apart_by_id_alone(grape: Grape) -> None:
    first = grape.add_cluster("twin")
    refused = grape("clusters", "add", "twin")
    with psycopg.connect(grape.plane.database_url) as connection:
        connection.execute(
            "insert into clusters (user_id, name) select user_id, name from clusters where id = %s",
            (first.cluster_id,),
        )
    ambiguous = grape("clusters", "show", "twin")
    assert (refused.code, "you have a cluster 'twin' already" in refused.err) == (1, True)
    assert ambiguous.code == 1
    assert "2 clusters are named 'twin'" in ambiguous.err
    assert first.cluster_id in ambiguous.err
    assert grape("clusters", "show", first.cluster_id).code == 0


def test_anothers_cluster_is_as_good_as_none(grape: Grape, tmp_path: Path) -> None:
    theirs = grape.add_cluster("theirs")
    other = new_grape(grape.plane, tmp_path / "other").sign_in()
    for arguments in (
        ("clusters", "show", theirs.cluster_id),
        ("clusters", "set", theirs.cluster_id, "--drain"),
        ("clusters", "rotate-token", "theirs"),
    ):
        refused = other(*arguments)
        assert refused.code == 1
        assert "you have no cluster" in refused.err
    assert "no such token" in other("clusters", "revoke-token", theirs.cluster_id).err


def test_what_a_name_holds_commands_no_terminal(grape: Grape) -> None:
    grape.add_cluster("evil\x1b]0;title\x07\n\x1b[2Jname ✓")
    plain = grape("clusters", "list")
    assert "\x1b" not in plain.out
    assert "evil name ✓" in plain.out
    assert "\\u001b[2J" in grape("clusters", "list", "--json").out


def test_a_narrow_encoding_and_a_closed_pipe_end_no_command(grape: Grape) -> None:
    grape.add_cluster("größe ✓")
    env = {**grape.environment, "PYTHONIOENCODING": "ascii"}
    narrow = subprocess.run([*GRAPE, "clusters", "list"], env=env, capture_output=True, check=True)
    with_head = subprocess.run(
        ["sh", "-c", f"{' '.join(GRAPE)} clusters list | true"], env=env, capture_output=True
    )
    assert b"gr??e ?" in narrow.stdout
    assert (with_head.returncode, with_head.stderr) == (0, b"")


# --- configurations -------------------------------------------------------------------------------


def test_a_configuration_comes_back_with_every_digit(grape: Grape, tmp_path: Path) -> None:
    grape.add_cluster()
    saved = grape("config", "save", "exact", "-", "--json", stdin=EXACT)
    assert saved.code == 0, saved.err
    text = grape("config", "get", "exact").out
    for number in ("12345678901234567", "0.12345678901234567890123", "1.50"):
        assert number in text
    again = tmp_path / "again.json"
    again.write_text(text)
    assert grape("config", "save", "exact", str(again)).code == 0
    assert grape("config", "get", "exact").out == text
    assert "exact" in grape("config", "list").out


def test_an_edit_is_saved_refused_or_left_alone(grape: Grape, tmp_path: Path) -> None:
    grape.add_cluster()
    grape("config", "save", "vpc", "-", stdin=EXACT)

    def edit(program: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*GRAPE, "config", "edit", "vpc"],
            env={**grape.environment, "EDITOR": program, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    changed = edit("sed -i s/12345678901234567/98765432109876543/")
    same = edit("true")
    broken = edit("sed -i s/version/vision/")
    failed = edit("false")
    assert changed.returncode == 0, changed.stderr
    assert "98765432109876543" in grape("config", "get", "vpc").out
    assert (same.returncode, same.stderr) == (0, "nothing changed\n")
    assert broken.returncode == 1
    assert "config_snapshot.template_source.version: Field required" in broken.stderr
    kept = Path(broken.stderr.split("your text is in ")[1].splitlines()[0])
    assert "vision" in kept.read_text()
    assert (failed.returncode, "nothing was saved" in failed.stderr) == (1, True)


def test_a_malformed_configuration_is_refused_before_it_is_sent(grape: Grape) -> None:
    grape.add_cluster()
    bad = grape("config", "save", "bad", "-", stdin='{"template_source": {"repo": "x"}}')
    assert bad.code == 1
    assert "config_snapshot.template_source.version: Field required" in bad.err
    assert grape("config", "list", "--json").json == []


# --- provisions -----------------------------------------------------------------------------------


def test_deploying_queues_what_was_saved_under_its_stack(grape: Grape) -> None:
    grape.add_cluster()
    grape("config", "save", "vpc", "-", stdin=EXACT.replace("12345678901234567", "17"))
    saved = grape("config", "list", "--json").json
    queued = grape("deploy", "vpc", "--plan", "--json").json
    assert isinstance(saved, list)
    assert isinstance(queued, dict)
    shown = grape("provisions", "show", queued["provision_id"], "--json").json
    assert isinstance(shown, dict)
    assert (shown["operation"], shown["status"], shown["stack_key"]) == (
        "PLAN",
        "QUEUED",
        saved[0]["id"],
    )
    assert len(shown["configuration_hash"]) == 64
    assert grape("provisions", "show").out.startswith("provision ")  # the newest


def test_destroying_needs_the_name_typed(grape: Grape, file: Path) -> None:
    grape.add_cluster()
    unasked = grape("deploy", str(file), "--destroy")
    wrong = grape("deploy", str(file), "--destroy", "--confirm", "hello")
    right = grape("deploy", str(file), "--destroy", "--confirm", "hello.json", "--json")
    listed = grape("provisions", "list", "--json").json
    assert (unasked.code, "--confirm 'hello.json'" in unasked.err) == (2, True)
    assert (wrong.code, "nothing was queued" in wrong.err) == (2, True)
    assert right.code == 0
    assert isinstance(listed, list)
    assert [row["operation"] for row in listed] == ["DESTROY"]


def test_which_cluster_is_asked_where_there_are_several(grape: Grape, file: Path) -> None:
    none = grape("deploy", str(file))
    grape.add_cluster("a")
    grape.add_cluster("b")
    several = grape("deploy", str(file))
    named = grape("deploy", str(file), "--cluster", "b")
    by_variable = grape("deploy", str(file), GRAPE_CLUSTER="a")
    unknown = grape("deploy", "no-such-configuration")
    assert (none.code, several.code) == (2, 2)
    assert "which cluster?" in several.err
    assert (named.code, by_variable.code) == (0, 0)
    assert "you have no configuration 'no-such-configuration'" in unknown.err
    assert grape("provisions", "list", "--cluster", "b").out.count("QUEUED") == 2  # and the title


def test_a_queued_provision_is_cancelled_at_once_and_waiting_says_so(
    grape: Grape, file: Path
) -> None:
    grape.add_cluster()
    queued = grape("deploy", str(file), "--json").json
    assert isinstance(queued, dict)
    provision_id = queued["provision_id"]
    cancelled = grape("provisions", "cancel", provision_id, "--json").json
    again = grape("provisions", "cancel", provision_id)
    followed = grape("logs", "-f", provision_id)
    assert cancelled == {"status": "CANCELLED", "changed": True, "cancel": "graceful"}
    assert again.err == "nothing changed: it is CANCELLED\n"
    assert (followed.code, followed.out) == (3, "")
    assert "cancelled" in followed.err


def test_a_provision_that_is_not_there_or_not_mine_is_refused(grape: Grape, file: Path) -> None:
    nobody = "00000000-0000-4000-8000-00000000dead"
    assert "you have no provision" in grape("provisions", "show", nobody).err
    assert "no such provision" in grape("provisions", "cancel", nobody).err
    assert "there is no provision" in grape("logs", "-f", nobody).err
    assert "is not the id of a provision" in grape("logs", "vpc").err
    assert "you have no provision yet" in grape("logs").err


def test_hundreds_of_provisions_are_listed_whole_and_cut_by_a_limit(
    grape: Grape, file: Path
) -> None:
    cluster = grape.add_cluster()
    with psycopg.connect(grape.plane.database_url) as connection:
        connection.execute(
            "insert into provisions (cluster_id, config_snapshot) select %s, %s::jsonb"
            " from generate_series(1, 1203)",
            (cluster.cluster_id, file.read_text()),
        )
    everything = grape("provisions", "list", "--limit", "0", "--json").json
    assert isinstance(everything, list)
    assert len({row["id"] for row in everything}) == 1203
    assert len(grape("provisions", "list").out.splitlines()) == 1 + 20
    assert len(grape("provisions", "list", "--limit", "7").out.splitlines()) == 1 + 7


def test_an_interrupt_detaches_and_says_how_to_come_back(grape: Grape, file: Path) -> None:
    grape.add_cluster()
    process = grape.start("deploy", str(file), "--follow")
    assert process.stderr is not None
    seen = b""
    while b"queued\n" not in seen:
        seen += os.read(process.stderr.fileno(), 4096)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    said = (seen + err).decode()
    provision_id = said.split("queued provision ")[1].split()[0]
    assert (process.returncode, out) == (130, b"")
    assert f"grape logs -f {provision_id}" in said
    assert f"grape provisions cancel {provision_id}" in said
    assert "Traceback" not in said
    shown = grape("provisions", "show", provision_id, "--json").json
    assert isinstance(shown, dict)
    assert shown["status"] == "QUEUED"


def test_following_prints_exactly_the_stored_log_and_tells_how_it_ended(
    grape: Grape, tmp_path: Path
) -> None:
    """With a real agent and Terraform; also what comes without a line end, and not in ASCII."""
    repo = template_repo(
        tmp_path / "templates", broken='resource "terraform_data" "a" { input = file("не тут") }'
    )
    cluster = grape.add_cluster()
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(snapshot(repo)))
    broken = {"repo": repo, "version": "v1", "path": "broken"}
    bad.write_text(json.dumps(snapshot(repo, template_source=broken, terraform_vars={})))
    with Fleet(grape.plane, cluster, tmp_path).agent() as agent:
        anyio.run(agent.says, "online")
        followed = _ended(grape.start("deploy", str(good), "--follow", PYTHONUTF8="0"))
        failed = _ended(grape.start("deploy", str(bad), "--follow", LC_ALL="C"))
        waited = _ended(grape.start("deploy", str(good), "--wait", "--json"))
    for (code, out, err), wanted in ((followed, 0), (failed, 3)):
        provision_id = err.decode().split("queued provision ")[1].split()[0]
        assert code == wanted, err
        assert out == _stored(grape, provision_id)
        assert grape("logs", provision_id).out.encode() == out
        lines = grape("logs", provision_id, "--json").out.splitlines()
        assert "".join(json.loads(line)["text"] for line in lines).encode() == out
    assert "не тут".encode() in failed[1]
    assert waited[0] == 0
    assert json.loads(waited[1])["status"] == "SUCCESS"


def _ended(process: "subprocess.Popen[bytes]") -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def _stored(grape: Grape, provision_id: str) -> bytes:
    with psycopg.connect(grape.plane.database_url) as connection:
        row = connection.execute(
            "select string_agg(log_chunk, '' order by attempt, seq) from provision_logs"
            " where provision_id = %s",
            (provision_id,),
        ).fetchone()
    assert row is not None
    return str(row[0]).encode()


# --- the rest -------------------------------------------------------------------------------------


def test_a_key_goes_to_stdout_and_its_use_to_stderr(grape: Grape, tmp_path: Path) -> None:
    made = grape("keygen", str(tmp_path / "deploy.key"))
    assert len(made.out.split()) == 1
    assert "TENDRIL_TRUSTED_KEYS" in made.err


def test_the_dashboard_is_served_for_the_project_until_it_is_interrupted(grape: Grape) -> None:
    process = grape.start("dashboard", "--json")
    assert process.stdout is not None
    said = b""
    while b"}" not in said:
        said += os.read(process.stdout.fileno(), 4096)
    url = json.loads(said)["url"]
    config = httpx.get(f"{url}config.json").json()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert config == {"url": grape.plane.url, "anon_key": grape.plane.anon_key}
    assert b"Traceback" not in err


def test_a_shell_can_complete_every_command(grape: Grape) -> None:
    script = grape("completion", "bash")
    checked = subprocess.run(["bash", "-n"], input=script.out, text=True, check=False)
    assert checked.returncode == 0
    for word in ("clusters", "rotate-token", "--old-expires-in", "--follow"):
        assert word in script.out


def test_colours_are_for_terminals_alone(grape: Grape) -> None:
    grape.add_cluster()
    assert "\x1b" not in grape("clusters", "list").out
    seen = {}
    for name, extra in (("plain", {"NO_COLOR": "1"}), ("coloured", {"TERM": "xterm"})):
        env = {k: v for k, v in grape.environment.items() if k != "NO_COLOR"} | extra
        run = ["script", "-qec", f"{' '.join(GRAPE)} clusters list", "/dev/null"]
        seen[name] = subprocess.run(run, env=env, capture_output=True, check=True).stdout
    assert b"\x1b[33mPENDING" in seen["coloured"]
    assert b"\x1b" not in seen["plain"]


async def test_realtime_tells_that_a_provision_went_on(grape: Grape, file: Path) -> None:
    cluster = await anyio.to_thread.run_sync(grape.add_cluster)
    async with grape.owner() as user:
        text = await anyio.Path(file).read_text()
        provision_id = await user.create_provision(cluster.cluster_id, text)
    account = Account(grape.environment)
    news = News(account.project(), account.token, provision_id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(news.listen)

        async def is_ready() -> bool | None:
            return news.is_ready or None

        await eventually(is_ready, "Realtime did not become ready")
        while await news.changed.wait(0):
            pass
        async with await psycopg.AsyncConnection.connect(grape.plane.database_url) as connection:
            await connection.execute(
                "insert into provision_logs (provision_id, attempt, seq, byte_offset, stream_type,"
                " log_chunk) values (%s, 1, 0, 0, 'STDOUT', 'x')",
                (provision_id,),
            )
        assert await news.changed.wait(20)
        tasks.cancel_scope.cancel()
