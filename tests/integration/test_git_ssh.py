"""Templates over ssh from a real sshd: the key and hosts that settings name, and no question."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tendril_rt.model import Status
from tendril_rt.runner.credentials import Credentials
from tendril_rt.settings import RunnerSettings

from .attempts import Bench
from .git_support import Fetcher, Repository, version_in
from .ssh_server import SshHost, make_key, ssh_host

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.git_fixtures"]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SshHost]:
    with ssh_host(tmp_path / "sshd") as running:
        yield running


@dataclass(frozen=True)
class Askpass:
    """A program that answers what ssh asks; *asked* is there once it did."""

    program: Path
    asked: Path

    @property
    def was_asked(self) -> bool:
        return self.asked.exists()


@pytest.fixture
def askpass(tmp_path: Path) -> Askpass:
    made = Askpass(tmp_path / "askpass", tmp_path / "asked")
    made.program.write_text(f"#!/bin/sh\ntouch '{made.asked}'\necho yes\n")
    made.program.chmod(0o755)
    return made


@pytest.fixture
def fetch_ssh(fetch: Fetcher, host: SshHost, askpass: Askpass) -> Fetcher:
    """Checkouts with that host's key, by an ssh that could ask if it wanted to."""
    asking = {"SSH_ASKPASS": str(askpass.program), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    return replace(
        fetch,
        env={**fetch.env, **asking},
        credentials=Credentials(None, host.key_file, host.known_hosts_file),
    )


async def test_the_key_opens_the_host_and_a_kept_commit_needs_no_second_fetch(
    repository: Repository, host: SshHost, fetch_ssh: Fetcher
) -> None:
    first = await fetch_ssh(host.url_of(repository.path), "main")
    again = await fetch_ssh.into("again")(host.url_of(repository.path), "main")
    host.know_as(make_key(host.folder / "other_key").with_suffix(".pub"))
    kept = await fetch_ssh.into("kept")(host.url_of(repository.path), first.commit)

    assert first.commit == again.commit == kept.commit == repository.git("rev-parse", "HEAD")
    assert version_in(kept) == "first"


async def test_a_run_gets_its_template_with_what_the_settings_name(
    host: SshHost, tmp_path: Path
) -> None:
    bench = Bench(tmp_path)
    bench.templates()
    bench.repo = host.url_of(tmp_path / "repo")
    bench.settings = RunnerSettings(
        git_ssh_key_file=host.key_file, git_known_hosts_file=host.known_hosts_file
    )

    said = await bench.run(bench.provision("hello"))

    assert said.outcome is not None
    assert said.outcome.status is Status.SUCCESS, said.message
    assert len(str(said.metadata["commit"])) == 40


async def test_a_host_with_another_key_than_the_known_one_is_refused(
    repository: Repository, host: SshHost, fetch_ssh: Fetcher, askpass: Askpass
) -> None:
    host.know_as(make_key(host.folder / "other_key").with_suffix(".pub"))

    message = await fetch_ssh.refusal(host.url_of(repository.path), "main")

    assert "Host key verification failed" in message
    assert "TENDRIL_GIT_KNOWN_HOSTS_FILE" in message
    assert "tried" not in message
    assert not askpass.was_asked


async def test_an_unknown_host_is_refused_and_not_learnt(
    repository: Repository, host: SshHost, fetch_ssh: Fetcher, askpass: Askpass
) -> None:
    host.known_hosts_file.write_text("")

    message = await fetch_ssh.refusal(host.url_of(repository.path), "main")

    assert "TENDRIL_GIT_KNOWN_HOSTS_FILE" in message
    assert not host.known_hosts_file.stat().st_size
    assert not askpass.was_asked


@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
async def test_a_key_that_does_not_open_the_host_is_named_and_nobody_is_asked(
    repository: Repository, host: SshHost, fetch_ssh: Fetcher, askpass: Askpass, passphrase: str
) -> None:
    """One that the host does not know; one that it does, and that nobody is there to unlock."""
    key = make_key(host.folder / "locked or unknown", passphrase)
    if passphrase:
        host.authorize(key)
    fetch = replace(fetch_ssh, credentials=replace(fetch_ssh.credentials, ssh_key_file=key))

    message = await fetch.refusal(host.url_of(repository.path), "main")

    assert "Permission denied (publickey)" in message
    assert "TENDRIL_GIT_SSH_KEY_FILE" in message
    assert "tried" not in message
    assert not askpass.was_asked


async def test_a_repository_that_is_not_there_is_told_from_a_refused_key(
    host: SshHost, fetch_ssh: Fetcher, tmp_path: Path
) -> None:
    message = await fetch_ssh.refusal(host.url_of(tmp_path / "nowhere"), "main")

    assert "does not appear to be a git repository" in message
    assert "Check that the repository exists" in message
