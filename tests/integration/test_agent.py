"""The whole path over real sockets: a row in ``provisions`` becomes a Terraform run with a log."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import psycopg
import pytest

from tendril_rt.control.owner import Owner, ProvisionState, Registration
from tendril_rt.model import Operation, ProvisionId, Status, StreamType
from tests.conftest import RunningPlane
from tests.integration.agents import (
    Agent,
    Fleet,
    ended,
    eventually,
    log_text,
    recording_terraform,
    snapshot,
    template_repo,
)

pytestmark = pytest.mark.integration

_SLOW = """
resource "terraform_data" "slow" {
  provisioner "local-exec" {
    command = "echo begun; while [ ! -e '${var.until}' ]; do sleep 0.05; done; echo finished"
  }
}
variable "until" { type = string }
"""
_BROKEN_PLAN = 'resource "terraform_data" "x" { input = var.nowhere }\n'
_BROKEN_APPLY = """
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "echo about to fail >&2; exit 3" }
}
"""
_GREEDY = """
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "head -c 3000000 /dev/zero > big; exec sleep 60" }
}
"""
_ENVIRONMENT = """
resource "terraform_data" "x" {
  provisioner "local-exec" { command = "env" }
}
"""


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> str:
    return template_repo(
        tmp_path_factory.mktemp("templates"),
        slow=_SLOW,
        broken_plan=_BROKEN_PLAN,
        broken_apply=_BROKEN_APPLY,
        greedy=_GREEDY,
        environment=_ENVIRONMENT,
    )


@pytest.fixture
def fleet(plane: RunningPlane, cluster: Registration, tmp_path: Path) -> Fleet:
    return Fleet(plane, cluster, tmp_path)


@pytest.fixture
def agent(fleet: Fleet) -> Iterator[Agent]:
    with fleet.agent() as running:
        yield running


def _of(repo: str, path: str, **variables: object) -> dict[str, object]:
    source = {"repo": repo, "version": "v1", "path": path}
    return snapshot(repo, template_source=source, terraform_vars=variables)


async def _begun(user: Owner, provision_id: ProvisionId) -> None:
    """Wait until the slow template's apply prints its first line."""

    async def look() -> bool | None:
        text = await log_text(user, provision_id, StreamType.STDOUT)
        return "(local-exec): begun" in text or None

    await eventually(look, "the apply did not begin")


async def test_what_terraform_printed_is_what_is_stored(
    fleet: Fleet, user: Owner, repo: str, tmp_path: Path
) -> None:
    program, printed = recording_terraform(tmp_path)
    with fleet.agent(TENDRIL_TERRAFORM=program):
        provision_id = await user.create_provision(fleet.cluster.cluster_id, snapshot(repo))
        state = await ended(user, provision_id)

    assert state.status is Status.SUCCESS, state.error_message
    assert await log_text(user, provision_id, StreamType.STDOUT) == printed.read_text()
    assert "hello, test: line 3 of 3" in printed.read_text()
    system = await log_text(user, provision_id, StreamType.SYSTEM)
    for step in ("cloning", "terraform init", "terraform plan", "terraform apply", "SUCCESS"):
        assert step in system


async def test_the_rows_agree_and_say_what_ran(
    agent: Agent, plane: RunningPlane, cluster: Registration, user: Owner, repo: str
) -> None:
    provision_id = await user.create_provision(cluster.cluster_id, snapshot(repo))
    await ended(user, provision_id)

    with psycopg.connect(plane.database_url) as connection:
        row = connection.execute(
            "select execution_metadata, attempt, completed_at > started_at from provisions "
            "where id = %s",
            (provision_id,),
        ).fetchone()
        chunks = connection.execute(
            "select seq, byte_offset, octet_length(log_chunk) from provision_logs "
            "where provision_id = %s order by seq",
            (provision_id,),
        ).fetchall()
    assert row is not None
    metadata, attempt, in_order = row
    assert (attempt, in_order) == (1, True)
    assert [step["name"] for step in metadata["steps"]] == ["init", "plan", "apply"]
    assert len(metadata["commit"]) == 40
    offset = 0
    for expected_seq, (seq, byte_offset, length) in enumerate(chunks):
        assert (seq, byte_offset) == (expected_seq, offset)
        offset += length


async def test_nothing_of_a_run_is_left_in_the_workspace_but_the_state_is_kept(
    agent: Agent, cluster: Registration, user: Owner, repo: str
) -> None:
    configuration = snapshot(repo)
    first = await user.create_provision(cluster.cluster_id, configuration)
    await ended(user, first)
    second = await user.create_provision(cluster.cluster_id, configuration)
    await ended(user, second)

    assert "No changes." in await log_text(user, second, StreamType.STDOUT)
    assert list(agent.workspace_dir.iterdir()) == []
    assert list((agent.state_dir / "spool").iterdir()) == []


async def test_plan_changes_nothing_and_destroy_undoes_an_apply(
    agent: Agent, cluster: Registration, user: Owner, repo: str
) -> None:
    configuration = snapshot(repo)
    for operation, expected in (
        (Operation.PLAN, "Plan: 2 to add"),
        (Operation.APPLY, "2 added, 0 changed, 0 destroyed"),
        (Operation.DESTROY, "0 added, 0 changed, 2 destroyed"),
    ):
        provision_id = await user.create_provision(
            cluster.cluster_id, configuration, operation=operation
        )
        state = await ended(user, provision_id)
        text = await log_text(user, provision_id, StreamType.STDOUT)
        assert state.status is Status.SUCCESS, state.error_message
        assert expected in text
        assert ("Apply complete!" in text) == (operation is not Operation.PLAN)


async def test_a_push_is_enough_without_any_poll(fleet: Fleet, user: Owner, repo: str) -> None:
    with fleet.agent(TENDRIL_POLL_INTERVAL_S="300") as agent:
        await agent.says("realtime: READY")
        provision_id = await user.create_provision(fleet.cluster.cluster_id, snapshot(repo))
        state = await ended(user, provision_id)
    assert state.status is Status.SUCCESS


async def test_a_poll_is_enough_without_any_push(fleet: Fleet, user: Owner, repo: str) -> None:
    with fleet.agent(TENDRIL_REALTIME="false", TENDRIL_POLL_INTERVAL_S="0.2") as agent:
        await agent.says("online")
        provision_id = await user.create_provision(fleet.cluster.cluster_id, snapshot(repo))
        state = await ended(user, provision_id)
        assert "realtime" not in agent.log
    assert state.status is Status.SUCCESS


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (
            {"template_source": {"repo": "file:///nowhere/at/all", "version": "v1"}},
            "TEMPLATE_UNAVAILABLE",
            r"(?s)file:///nowhere/at/all.*does not (exist|appear)",
        ),
        (
            {"template_source": {"repo": "ext::sh -c true", "version": "v1"}},
            "TEMPLATE_UNAVAILABLE",
            "template_source.repo",
        ),
    ],
    ids=["no such repository", "a transport that runs commands"],
)
async def test_a_bad_template_fails_with_its_cure_and_the_agent_goes_on(
    agent: Agent,
    cluster: Registration,
    user: Owner,
    repo: str,
    change: dict[str, object],
    code: str,
    message: str,
) -> None:
    bad = await user.create_provision(cluster.cluster_id, snapshot(repo, **change))
    good = await user.create_provision(cluster.cluster_id, snapshot(repo))

    await _failed(user, bad, code, message)
    assert (await ended(user, good)).status is Status.SUCCESS
    assert agent.process.poll() is None


async def test_a_version_that_does_not_exist_is_named_with_those_that_do(
    agent: Agent, cluster: Registration, user: Owner, repo: str
) -> None:
    source = {"repo": repo, "version": "v99", "path": "hello"}
    provision_id = await user.create_provision(
        cluster.cluster_id, snapshot(repo, template_source=source)
    )
    await _failed(user, provision_id, "TEMPLATE_UNAVAILABLE", r"'v99' .* newest tags: v1")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("broken_plan", r"(?s)terraform plan failed \(exit code 1\).*undeclared input variable"),
        ("broken_apply", r"(?s)terraform apply failed \(exit code 1\).*exit status 3"),
    ],
)
async def test_a_terraform_error_says_which_step_and_the_last_lines(
    agent: Agent, cluster: Registration, user: Owner, repo: str, path: str, message: str
) -> None:
    provision_id = await user.create_provision(cluster.cluster_id, _of(repo, path))
    await _failed(user, provision_id, "TERRAFORM_FAILED", message)


async def test_a_configuration_that_was_changed_after_hashing_is_refused(
    agent: Agent, plane: RunningPlane, cluster: Registration, user: Owner, repo: str
) -> None:
    provision_id = await _insert(
        plane, cluster, json.dumps(snapshot(repo)), configuration_hash="0" * 64
    )
    await _failed(user, provision_id, "INVALID_CONFIG", "it was changed after it was submitted")


async def test_a_template_sees_nothing_of_the_agents_own_environment(
    agent: Agent, cluster: Registration, user: Owner, repo: str
) -> None:
    provision_id = await user.create_provision(cluster.cluster_id, _of(repo, "environment"))
    assert (await ended(user, provision_id)).status is Status.SUCCESS
    text = await log_text(user, provision_id)
    assert "PATH=" in text
    assert "TENDRIL_" not in text
    assert "SUPABASE_" not in text
    assert cluster.token not in text


async def test_a_sensitive_value_is_in_no_log(
    agent: Agent, cluster: Registration, user: Owner, repo: str
) -> None:
    variables = {"name": "not-to-be-shown", "lines": 2, "pause_seconds": 0}
    provision_id = await user.create_provision(
        cluster.cluster_id, snapshot(repo, terraform_vars=variables, sensitive=["name"])
    )
    assert (await ended(user, provision_id)).status is Status.SUCCESS
    text = await log_text(user, provision_id)
    assert "hello, [redacted]: line 2 of 2" in text
    assert "not-to-be-shown" not in text


async def test_numbers_reach_terraform_exactly(
    agent: Agent, cluster: Registration, plane: RunningPlane, user: Owner, repo: str
) -> None:
    text = json.dumps(snapshot(repo)).replace('"name": "test"', '"name": 12345678901234567890123')
    provision_id = await _insert(plane, cluster, text, configuration_hash=None)
    assert (await ended(user, provision_id)).status is Status.SUCCESS
    assert "hello, 12345678901234567890123:" in await log_text(user, provision_id)


async def test_two_agents_run_twenty_provisions_once_each(
    plane: RunningPlane, user: Owner, repo: str, tmp_path: Path
) -> None:
    cluster = await user.register_cluster("twenty", max_concurrency=4)
    fleet = Fleet(plane, cluster, tmp_path)
    proof = tmp_path / "proof"
    proof.mkdir()
    mark = f"""
resource "terraform_data" "mark" {{
  triggers_replace = [var.number]
  provisioner "local-exec" {{ command = "mktemp '{proof}/${{var.number}}.XXXXXX'" }}
}}
variable "number" {{ type = number }}
"""
    stacks = [f"mark{number}" for number in range(4)]
    marks = template_repo(tmp_path / "marks", **dict.fromkeys(stacks, mark))
    with fleet.agent("one") as one, fleet.agent("two") as two:
        await one.says("online")
        await two.says("online")
        queued = [
            await user.create_provision(
                cluster.cluster_id, _of(marks, stacks[number % 4], number=number)
            )
            for number in range(20)
        ]
        states = [await ended(user, provision_id) for provision_id in queued]
    assert {state.status for state in states} == {Status.SUCCESS}
    assert sorted(int(path.name.split(".")[0]) for path in proof.iterdir()) == list(range(20))
    claims = [line for agent in (one, two) for line in agent.log.splitlines() if "claimed" in line]
    assert len(claims) == 20
    assert all("attempt 1" in line for line in claims)


@pytest.mark.parametrize("force", [False, True])
async def test_a_running_provision_is_cancelled_when_its_owner_asks(
    fleet: Fleet, cluster: Registration, user: Owner, repo: str, tmp_path: Path, force: bool
) -> None:
    provision_id = await user.create_provision(
        cluster.cluster_id, _of(repo, "slow", until=str(tmp_path / "never"))
    )
    # The run prints nothing more: the request arrives with the next heartbeat.
    with fleet.agent(TENDRIL_HEARTBEAT_INTERVAL_S="0.5"):
        await _begun(user, provision_id)
        await user.cancel_provision(provision_id, force=force)
        state = await ended(user, provision_id)
    assert state.status is Status.CANCELLED
    assert state.error_message is not None
    assert "terraform apply" in state.error_message


async def test_sigterm_finishes_what_runs_and_claims_nothing_more(
    agent: Agent, cluster: Registration, user: Owner, repo: str, tmp_path: Path
) -> None:
    running = await user.create_provision(
        cluster.cluster_id, _of(repo, "slow", until=str(tmp_path / "go"))
    )
    await _begun(user, running)
    queued = await user.create_provision(cluster.cluster_id, snapshot(repo))
    agent.signal(signal.SIGTERM)
    await agent.says("draining: 1 running")
    (tmp_path / "go").touch()

    assert await agent.exit_code() == 0
    assert await _status(user, running) is Status.SUCCESS
    assert "finished" in await log_text(user, running)
    assert await _status(user, queued) is Status.QUEUED


async def test_a_second_sigterm_interrupts_terraform_and_leaves_no_process(
    agent: Agent, cluster: Registration, user: Owner, repo: str, tmp_path: Path
) -> None:
    never = tmp_path / "never"
    provision_id = await user.create_provision(
        cluster.cluster_id, _of(repo, "slow", until=str(never))
    )
    await _begun(user, provision_id)
    agent.signal(signal.SIGTERM)
    await agent.says("draining")
    agent.signal(signal.SIGTERM)

    assert await agent.exit_code() == 0
    state = await user.provision(provision_id)
    assert state is not None
    assert (state.status, state.error_code) == (Status.FAILED, "AGENT_SHUTDOWN")
    assert _processes_that_mention(never) == []


async def test_a_control_plane_that_hangs_in_mid_run_loses_no_line(
    plane: RunningPlane, agent: Agent, cluster: Registration, user: Owner, repo: str
) -> None:
    configuration = snapshot(
        repo, terraform_vars={"name": "lossless", "lines": 240, "pause_seconds": 0.02}
    )
    provision_id = await user.create_provision(cluster.cluster_id, configuration)

    async def underway() -> bool | None:
        return "line 5 of 240" in await log_text(user, provision_id) or None

    await eventually(underway, "no output")
    with psycopg.connect(plane.database_url) as connection:
        # Every insert of a log chunk now waits until this transaction ends; anon's own statement
        # timeout (3 s) turns some of them into errors.
        connection.execute("lock table provision_logs in share row exclusive mode")
        await anyio.sleep(4)
    state = await ended(user, provision_id)
    assert state.status is Status.SUCCESS
    text = await log_text(user, provision_id, StreamType.STDOUT)
    for number in range(1, 241):
        assert text.count(f"lossless: line {number} of 240\n") == 1


async def test_settings_that_are_missing_or_wrong_are_all_listed(fleet: Fleet) -> None:
    with fleet.agent(
        TENDRIL_API_TOKEN="", SUPABASE_URL="ftp://x", TENDRIL_CLUSTER_ID="me"
    ) as agent:
        assert await agent.exit_code() == 2
    for name in ("TENDRIL_API_TOKEN", "SUPABASE_URL", "TENDRIL_CLUSTER_ID"):
        assert name in agent.log
    assert "SUPABASE_KEY" not in agent.log


async def test_a_wrong_token_ends_the_agent_with_its_cure(fleet: Fleet) -> None:
    with fleet.agent(TENDRIL_API_TOKEN="not-the-token") as agent:
        assert await agent.exit_code() == 1
    assert "check TENDRIL_CLUSTER_ID and TENDRIL_API_TOKEN" in agent.log
    assert "not-the-token" not in agent.log


async def test_a_wrong_api_key_ends_the_agent_with_its_cure(fleet: Fleet) -> None:
    with fleet.agent(SUPABASE_KEY="not-a-key") as agent:
        assert await agent.exit_code() == 1
    assert "Check SUPABASE_KEY" in agent.log


async def test_an_unreachable_control_plane_is_named_and_waited_for(fleet: Fleet) -> None:
    with fleet.agent(SUPABASE_URL="http://127.0.0.1:9") as agent:
        await agent.says("no answer from 127.0.0.1.*Check SUPABASE_URL")
        agent.signal(signal.SIGTERM)
        assert await agent.exit_code() == 0


async def test_terraform_that_is_not_there_ends_the_agent_with_its_cure(fleet: Fleet) -> None:
    with fleet.agent(TENDRIL_TERRAFORM="terraform-of-another-world") as agent:
        assert await agent.exit_code() == 1
    assert "terraform-of-another-world is not on the agent's PATH" in agent.log


async def test_two_agents_cannot_share_a_state_directory(fleet: Fleet) -> None:
    with fleet.agent() as first:
        await first.says("online")
        with fleet.agent("second", TENDRIL_STATE_DIR=str(first.state_dir)) as second:
            assert await second.exit_code() == 1
        assert "in use by another agent" in second.log


async def _failed(
    user: Owner, provision_id: ProvisionId, code: str, message: str
) -> ProvisionState:
    state = await ended(user, provision_id)
    assert (state.status, state.error_code) == (Status.FAILED, code), state.error_message
    assert state.error_message is not None
    assert re.search(message, state.error_message), state.error_message
    return state


def _processes_that_mention(path: Path) -> list[str]:
    done = subprocess.run(["pgrep", "-af", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


async def _status(user: Owner, provision_id: ProvisionId) -> Status | None:
    state = await user.provision(provision_id)
    return state.status if state else None


async def _insert(
    plane: RunningPlane, cluster: Registration, text: str, *, configuration_hash: str | None
) -> ProvisionId:
    """Queue a configuration as it is, without a client that would check it."""
    async with await psycopg.AsyncConnection.connect(plane.database_url) as connection:
        cursor = await connection.execute(
            "insert into provisions (cluster_id, config_snapshot, configuration_hash) "
            "values (%s, %s, %s) returning id",
            (cluster.cluster_id, text, configuration_hash),
        )
        row = await cursor.fetchone()
    assert row is not None
    return ProvisionId(str(row[0]))


async def test_a_run_that_fills_the_disk_is_stopped_and_says_so(
    fleet: Fleet, user: Owner, repo: str
) -> None:
    with fleet.agent(TENDRIL_WORKSPACE_MAX_BYTES="2000000") as agent:
        provision_id = await user.create_provision(fleet.cluster.cluster_id, _of(repo, "greedy"))
        state = await ended(user, provision_id)
        assert list(agent.workspace_dir.iterdir()) == []

    assert (state.status, state.error_code) == (Status.FAILED, "WORKSPACE_FAILED")
    assert state.error_message is not None
    assert "stopped during terraform apply" in state.error_message
    assert "TENDRIL_WORKSPACE_MAX_BYTES" in state.error_message
    assert "terraform apply failed" in state.error_message


async def test_below_the_floor_of_the_disk_nothing_is_claimed(
    fleet: Fleet, user: Owner, repo: str
) -> None:
    with fleet.agent(TENDRIL_DISK_FLOOR_BYTES=str(10**15 - 1)) as agent:
        await agent.says("claiming nothing: less than")
        provision_id = await user.create_provision(fleet.cluster.cluster_id, snapshot(repo))
        await anyio.sleep(1)  # long enough for a push
        waiting = await user.provision(provision_id)
        assert waiting is not None
        assert waiting.status is Status.QUEUED
        assert agent.log.count("claiming nothing") == 1
    with fleet.agent():
        assert (await ended(user, provision_id)).status is Status.SUCCESS
