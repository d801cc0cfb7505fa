"""Credentials for templates: used where they belong, seen nowhere, and not tried again in vain."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tendril_rt.errors import GitError
from tendril_rt.runner.credentials import Credentials
from tendril_rt.runner.repository import Remote

from .git_support import Fetcher, Host, Repository, version_in

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.git_fixtures"]

_LOGIN = "some user:s3/cr@t-9"
_QUOTED = "some%20user:s3%2Fcr%40t-9"
_SECRETS = ("s3/cr@t-9", "s3%2Fcr%40t-9")


def _file(folder: Path, *lines: str, mode: int = 0o600) -> Path:
    path = folder / "git-credentials"
    path.write_text("\n".join(lines) + "\n")
    path.chmod(mode)
    return path


def _with_file(fetch: Fetcher, *lines: str, mode: int = 0o600) -> Fetcher:
    return replace(fetch, credentials=Credentials(_file(fetch.folder, *lines, mode=mode)))


def _files_that_hold(folder: Path, *secrets: str) -> list[Path]:
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
    ]


def _assert_seen_nowhere(host: Host, folder: Path) -> None:
    assert any("ls-remote" in line for line in host.command_lines)
    for secret in _SECRETS:
        assert not any(secret in line for line in host.command_lines)
    assert _files_that_hold(folder, *_SECRETS) == []


async def test_a_login_in_the_address_opens_its_host_and_is_seen_nowhere(
    repository: Repository, host: Host, fetch_https: Fetcher
) -> None:
    host.login = _LOGIN

    checkout = await fetch_https(f"https://{_QUOTED}@{host.name}/repository", "main")

    assert version_in(checkout) == "first"
    _assert_seen_nowhere(host, fetch_https.folder)


async def test_the_file_opens_its_host_and_is_seen_nowhere_else(
    repository: Repository, host: Host, fetch_https: Fetcher
) -> None:
    host.login = _LOGIN
    fetch = _with_file(fetch_https, f"https://{_QUOTED}@{host.name}", "https://a:b@example.com")

    checkout = await fetch(f"{host.url}/repository", "main")

    assert version_in(checkout) == "first"
    assert fetch.credentials.file
    content = fetch.credentials.file.read_text()
    assert _QUOTED in content, "git neither erased nor added anything"
    fetch.credentials.file.unlink()
    _assert_seen_nowhere(host, fetch.folder)


async def test_a_renewed_file_counts_at_once(
    repository: Repository, host: Host, fetch_https: Fetcher
) -> None:
    host.login = _LOGIN
    fetch = _with_file(fetch_https, f"https://some%20user:old@{host.name}")
    assert "Authentication failed" in await fetch.refusal(f"{host.url}/repository", "main")

    _file(fetch.folder, f"https://{_QUOTED}@{host.name}")

    assert await fetch(f"{host.url}/repository", "main")


@pytest.mark.parametrize("where", ["the address", "the file"])
async def test_a_redirect_to_another_host_takes_no_credentials_along(
    repository: Repository, host: Host, other_host: Host, fetch_https: Fetcher, where: str
) -> None:
    host.login = _LOGIN
    fetch, user = fetch_https, f"{_QUOTED}@"
    if where == "the file":
        fetch, user = _with_file(fetch_https, f"https://{_QUOTED}@{host.name}"), ""
    host.faults = [other_host.url]

    checkout = await fetch(f"https://{user}{host.name}/repository", "main")

    assert version_in(checkout) == "first"
    assert other_host.paths
    assert not other_host.saw("s3/cr@t-9")


async def test_a_redirect_to_a_host_that_asks_gets_no_credentials_either(
    repository: Repository, host: Host, other_host: Host, fetch_https: Fetcher
) -> None:
    other_host.login = "its own:login"
    host.login = _LOGIN
    fetch = _with_file(fetch_https, f"https://{_QUOTED}@{host.name}")
    host.faults = [401, other_host.url]

    await fetch.refusal(f"{host.url}/repository", "main")

    assert other_host.paths
    assert host.saw("s3/cr@t-9"), "it was sent to the host that it is for"
    assert not other_host.saw("s3/cr@t-9")


async def test_the_machines_own_helper_is_not_told_the_login_of_an_address(
    repository: Repository, host: Host, home: Path, fetch_https: Fetcher
) -> None:
    host.login = _LOGIN
    (home / ".gitconfig").write_text("[credential]\n helper = store\n")

    assert await fetch_https(f"https://{_QUOTED}@{host.name}/repository", "main")

    assert not (home / ".git-credentials").exists()


async def test_the_machines_own_helper_serves_where_nothing_else_is_given(
    repository: Repository, host: Host, home: Path, fetch_https: Fetcher
) -> None:
    host.login = _LOGIN
    (home / ".gitconfig").write_text("[credential]\n helper = store\n")
    (home / ".git-credentials").write_text(f"https://{_QUOTED}@{host.name}\n")

    assert await fetch_https(f"{host.url}/repository", "main")


async def test_an_askpass_program_serves_too(
    repository: Repository, host: Host, fetch_https: Fetcher, tmp_path: Path
) -> None:
    host.login = "user:from-askpass"
    program = tmp_path / "askpass"
    program.write_text('#!/bin/sh\ncase "$1" in User*) echo user;; *) echo from-askpass;; esac\n')
    program.chmod(0o755)
    fetch = replace(fetch_https, env={**fetch_https.env, "GIT_ASKPASS": str(program)})

    assert await fetch(f"{host.url}/repository", "main")


async def test_nobody_is_asked_for_a_password(
    repository: Repository, host: Host, fetch_https: Fetcher
) -> None:
    host.login = _LOGIN

    message = await fetch_https.refusal(f"{host.url}/repository", "main")

    assert "terminal prompts disabled" in message
    assert "TENDRIL_GIT_CREDENTIALS_FILE" in message


async def test_a_password_that_is_refused_is_neither_shown_nor_tried_again(
    repository: Repository, host: Host, fetch_https: Fetcher
) -> None:
    host.login = "somebody:else"

    message = await fetch_https.refusal(f"https://{_QUOTED}@{host.name}/repository", "main")

    assert "Authentication failed" in message
    assert not any(secret in message for secret in _SECRETS)
    assert host.authorizations.count(_LOGIN) == 1


async def test_what_one_login_fetched_is_not_served_to_another(
    repository: Repository, host: Host, fetch_https: Fetcher, tmp_path: Path
) -> None:
    host.login = _LOGIN
    commit = repository.git("rev-parse", "HEAD")
    assert await fetch_https(f"https://{_QUOTED}@{host.name}/repository", commit)

    message = await fetch_https.into("other").refusal(f"{host.url}/repository", commit)

    assert "could not read Username" in message


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660])
async def test_a_file_that_others_may_read_or_change_is_not_used(
    fetch_https: Fetcher, mode: int
) -> None:
    fetch = _with_file(fetch_https, "https://a:b@127.0.0.1", mode=mode)

    message = await fetch.refusal("https://127.0.0.1:1/x", "main")

    assert f"may be read or changed by others (mode {mode:04o})" in message
    assert "TENDRIL_GIT_CREDENTIALS_FILE" in message


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440])
def test_a_file_that_only_its_owner_or_group_may_read_is_used(tmp_path: Path, mode: int) -> None:
    file = _file(tmp_path, "https://user:secret@example.com", mode=mode)
    env = Credentials(file).environment(Remote("https://example.com/x"), {})
    assert env["TENDRIL_GIT_PASSWORD"] == "secret"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(GitError, match=r"nowhere .TENDRIL_GIT_CREDENTIALS_FILE. is not there"):
        Credentials(tmp_path / "nowhere").environment(Remote("https://example.com/x"), {})


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("https://example.com/acme/x", "first"),
        ("https://EXAMPLE.com:443/acme/x", "first"),
        ("https://example.com/acme/private", "narrow"),
        ("https://example.com/acme/private.git", "first"),
        ("https://example.com:8443/acme/x", "port"),
        ("https://sub.example.com/acme/x", None),
        ("https://example.com.evil.org/acme/x", None),
        ("ssh://example.com/acme/x", None),
        ("git@example.com:acme/x", None),
    ],
)
def test_a_line_serves_its_host_port_and_folder_and_nothing_else(
    tmp_path: Path, url: str, password: str | None
) -> None:
    file = _file(
        tmp_path,
        "no url at all",
        "https://[broken",
        "https://u:narrow@example.com/acme/private",
        "https://u:first@example.com",
        "https://u:second@example.com",
        "https://u:port@example.com:8443",
        "http://u:insecure@sub.example.com",
    )
    env = Credentials(file).environment(Remote(url), {})
    assert env.get("TENDRIL_GIT_PASSWORD") == password


# --- ssh ------------------------------------------------------------------------------------------


def _recording_ssh(folder: Path) -> Path:
    """Return a folder for PATH with an ssh that only says what it was given."""
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor word; do echo "<$word>"; done >&2\nexit 255\n')
    program.chmod(0o755)
    return program.parent


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "a key"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)],
        check=True,
        capture_output=True,
    )
    return path


async def test_ssh_never_asks(fetch: Fetcher, tmp_path: Path) -> None:
    path = f"{_recording_ssh(tmp_path)}:{fetch.env['PATH']}"

    message = await replace(fetch, env={**fetch.env, "PATH": path}).refusal(
        "git@templates.invalid:acme/x.git", "main"
    )

    assert "<-oBatchMode=yes>" in message


async def test_ssh_uses_the_given_key_and_known_hosts_alone(
    fetch: Fetcher, tmp_path: Path, key: Path
) -> None:
    hosts = tmp_path / "known hosts"
    hosts.touch()
    fetch = replace(
        fetch,
        env={**fetch.env, "PATH": f"{_recording_ssh(tmp_path)}:{fetch.env['PATH']}"},
        credentials=Credentials(None, key, hosts),
    )

    message = await fetch.refusal("ssh://git@templates.invalid/acme/x.git", "main")

    for word in (
        *("-i", str(key), "-oIdentitiesOnly=yes", "-oStrictHostKeyChecking=yes"),
        f'-oUserKnownHostsFile="{hosts}"',
    ):
        assert f"<{word}>" in message


@pytest.mark.parametrize("missing", ["ssh_key_file", "known_hosts_file"])
def test_a_file_of_ssh_that_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    credentials = replace(Credentials(), **{missing: tmp_path / "nowhere"})
    with pytest.raises(GitError, match=r"nowhere .TENDRIL_GIT_.* is not there"):
        credentials.environment(Remote("git@example.com:x"), {})


def test_a_key_that_others_may_read_is_not_used(key: Path) -> None:
    key.chmod(0o644)
    with pytest.raises(GitError, match="TENDRIL_GIT_SSH_KEY_FILE"):
        Credentials(ssh_key_file=key).environment(Remote("git@example.com:x"), {})


def test_the_machines_own_ssh_command_is_kept_where_no_setting_says_more(key: Path) -> None:
    env = {"GIT_SSH_COMMAND": "ssh -F /etc/agent"}
    remote = Remote("git@example.com:x")
    assert "GIT_SSH_COMMAND" not in Credentials().environment(remote, env)
    assert str(key) in Credentials(ssh_key_file=key).environment(remote, env)["GIT_SSH_COMMAND"]
