"""Fetching templates from real repositories, and refusing what a row should not make git do."""

import base64
import os
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from tendril_rt.errors import GitError
from tendril_rt.model import TemplateSource
from tendril_rt.runner.credentials import Credentials
from tendril_rt.runner.git import Checkout, Git
from tendril_rt.runner.mirror import Mirrors

pytestmark = pytest.mark.integration

_PROMPT_S = 5.0
_MAIN_TF = 'output "version" { value = "%s" }\n'
_ENV = {
    "PATH": os.environ["PATH"],
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


@dataclass(frozen=True)
class Repository:
    """A repository on disk that a test fills."""

    path: Path
    env: Mapping[str, str]

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.path, env=self.env, check=True, capture_output=True
        )
        return done.stdout.decode().strip()

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def commit(self) -> str:
        """Commit everything; return the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=a commit")
        return self.git("rev-parse", "HEAD")


@dataclass(frozen=True)
class Fetcher:
    """Checks out into a fresh folder each time, with a home directory of the test's own."""

    folder: Path
    env: Mapping[str, str]
    credentials: Credentials = field(default_factory=Credentials)
    max_bytes: int = 10_000_000
    cache_max_bytes: int = 10_000_000

    @property
    def target(self) -> Path:
        return self.folder / "templates"

    async def __call__(
        self,
        repo: str,
        version: str,
        path: str = "",
        *,
        allow_file: bool = True,
        timeout_s: float = 20.0,
    ) -> Checkout:
        git = Git(
            self.env,
            Mirrors(self.folder / "mirrors", self.cache_max_bytes),
            self.credentials,
            timeout_s=timeout_s,
            max_bytes=self.max_bytes,
            allow_file=allow_file,
            first_pause_s=0.02,
        )
        return await git.checkout(TemplateSource(repo, version, path), self.target)

    async def refusal(
        self,
        repo: str,
        version: str,
        path: str = "",
        *,
        allow_file: bool = True,
        timeout_s: float = 20.0,
    ) -> str:
        """Return the message of the GitError that this must end in."""
        with pytest.raises(GitError) as caught:
            await self(repo, version, path, allow_file=allow_file, timeout_s=timeout_s)
        return str(caught.value)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def fetch(tmp_path: Path, home: Path) -> Fetcher:
    return Fetcher(tmp_path, {**_ENV, "HOME": str(home)})


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Repository:
    """One commit with a template, on the branch ``main``."""
    path = tmp_path / "repository"
    path.mkdir()
    repository = Repository(path, {**_ENV, "HOME": str(home)})
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.write("main.tf", _MAIN_TF % "first")
    repository.commit()
    return repository


def _made_anywhere(folder: Path) -> list[Path]:
    """Return the files that a command smuggled in would have made."""
    return list(folder.rglob("pwned"))


def _version_in(checkout: Checkout) -> str:
    match = re.search('value = "(.*)"', (checkout.root_module / "main.tf").read_text())
    assert match
    return match[1]


@pytest.mark.parametrize("kind", ["tag", "annotated tag", "branch", "commit"])
async def test_exactly_the_commit_that_the_version_names_is_checked_out(
    repository: Repository, fetch: Fetcher, kind: str
) -> None:
    repository.write("main.tf", _MAIN_TF % "wanted")
    wanted = repository.commit()
    version = {"commit": wanted}.get(kind, "v1.2.0")
    if kind != "commit":
        kinds = {"tag": ["tag"], "annotated tag": ["tag", "--message=x"], "branch": ["branch"]}
        repository.git(*kinds[kind], "v1.2.0")
    repository.write("main.tf", _MAIN_TF % "later")
    repository.commit()

    checkout = await fetch(repository.url, version)

    assert checkout.commit == wanted
    assert checkout.root_module == fetch.target
    assert _version_in(checkout) == "wanted"


async def test_a_tag_wins_over_a_branch_of_the_same_name(
    repository: Repository, fetch: Fetcher
) -> None:
    wanted = repository.git("rev-parse", "HEAD")
    repository.git("tag", "stable")
    repository.git("branch", "stable")
    repository.git("checkout", "--quiet", "-B", "stable")
    repository.write("main.tf", _MAIN_TF % "moved")
    repository.commit()

    assert (await fetch(repository.url, "stable")).commit == wanted


async def test_a_full_commit_wins_over_a_branch_that_borrows_its_name(
    repository: Repository, fetch: Fetcher
) -> None:
    wanted = repository.git("rev-parse", "HEAD")
    repository.write("main.tf", _MAIN_TF % "someone else's")
    other = repository.commit()
    repository.git("update-ref", f"refs/heads/{wanted}", other)

    assert (await fetch(repository.url, wanted)).commit == wanted


async def test_the_template_may_lie_in_a_folder(repository: Repository, fetch: Fetcher) -> None:
    repository.write("stacks/network/main.tf", _MAIN_TF % "network")
    repository.commit()

    checkout = await fetch(repository.url, "main", "stacks/network")

    assert checkout.root_module == fetch.target / "stacks" / "network"
    assert _version_in(checkout) == "network"


async def test_a_missing_version_is_named_with_the_tags_that_exist(
    repository: Repository, fetch: Fetcher
) -> None:
    repository.git("tag", "v1.0.0")
    repository.git("tag", "--message=x", "v1.1.0")

    message = await fetch.refusal(repository.url, "v9.9.9")

    assert "version 'v9.9.9' is no tag, branch or full commit" in message
    assert "v1.0.0, v1.1.0)" in message
    assert "template_source.version" in message


async def test_of_many_tags_the_newest_are_offered(repository: Repository, fetch: Fetcher) -> None:
    for minor in range(1, 13):
        repository.git("tag", f"v1.{minor}.0")

    message = await fetch.refusal(repository.url, "v2.0.0")

    assert "v1.12.0" in message
    assert "v1.2.0" not in message


async def test_a_missing_version_of_a_repository_without_tags_says_so(
    repository: Repository, fetch: Fetcher
) -> None:
    assert "it has no tags" in await fetch.refusal(repository.url, "v1.0.0")


async def test_a_commit_that_the_repository_does_not_have_is_an_error(
    repository: Repository, fetch: Fetcher
) -> None:
    message = await fetch.refusal(repository.url, "0123456789" * 4)

    assert "git fetch failed" in message
    assert repository.url in message


@pytest.mark.parametrize("version", ["HEAD", "mai", "refs/heads/main", "abcdef1"])
async def test_a_version_is_a_whole_name_and_nothing_that_git_would_complete(
    repository: Repository, fetch: Fetcher, version: str
) -> None:
    message = await fetch.refusal(repository.url, version)

    assert "is no tag, branch or full commit" in message


async def test_a_missing_repository_is_named(fetch: Fetcher, tmp_path: Path) -> None:
    url = (tmp_path / "nowhere").as_uri()

    message = await fetch.refusal(url, "main")

    assert url in message
    assert "does not appear to be a git repository" in message
    assert "Check that the repository exists" in message


async def test_a_missing_folder_is_named(repository: Repository, fetch: Fetcher) -> None:
    message = await fetch.refusal(repository.url, "main", "stacks/network")

    assert "template_source.path 'stacks/network' is no folder" in message


async def test_a_file_is_no_folder(repository: Repository, fetch: Fetcher) -> None:
    assert "is no folder" in await fetch.refusal(repository.url, "main", "main.tf")


async def test_a_folder_without_terraform_files_is_refused(
    repository: Repository, fetch: Fetcher
) -> None:
    repository.write("docs/README.md", "words")
    repository.commit()

    message = await fetch.refusal(repository.url, "main", "docs")

    assert "has no Terraform files in docs: set template_source.path" in message


@pytest.mark.parametrize("path", ["..", "../outside", "/etc", "a/../../outside", "link", "link/in"])
async def test_a_folder_outside_of_the_repository_is_refused(
    repository: Repository, fetch: Fetcher, tmp_path: Path, path: str
) -> None:
    (tmp_path / "outside" / "in").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "outside", tmp_path / "outside" / "in"):
        (folder / "main.tf").write_text(_MAIN_TF % "not yours")
    (repository.path / "link").symlink_to("../outside")
    repository.commit()

    assert "leads out of the repository" in await fetch.refusal(repository.url, "main", path)


@pytest.mark.parametrize("path", ["loop", "x" * 5000], ids=["a-link-to-itself", "too-long"])
async def test_a_folder_that_cannot_be_looked_at_is_an_error_of_the_template(
    repository: Repository, fetch: Fetcher, path: str
) -> None:
    (repository.path / "loop").symlink_to("loop")
    repository.commit()

    assert "template_source.path" in await fetch.refusal(repository.url, "main", path)


@pytest.mark.parametrize(
    "version",
    [
        *("", "--orphan=zz", "-x", "--upload-pack=touch pwned", "v1..v2", "HEAD~1", "v1^{commit}"),
        *("@{-1}", "main:main", "+main", "a*", "main ", "main\n", "a\x00b", "main.lock", "main/"),
        *("v1;touch pwned", "$(touch pwned)", "é", "v" * 300),
    ],
)
async def test_a_version_that_could_be_read_as_something_else_is_refused(
    repository: Repository, fetch: Fetcher, version: str
) -> None:
    message = await fetch.refusal(repository.url, version)

    assert "template_source.version" in message
    assert "is not the name of a tag, a branch or a full commit" in message
    assert not fetch.target.exists(), "nothing was started for it"


@pytest.mark.parametrize(
    "repo",
    [
        *("", " ", "--upload-pack=touch pwned", "-u", "/etc", "../repository", "repository"),
        *("ext::sh -c touch% pwned", "ext::sh", "fd::17", "git::https://example.com/x"),
        *("http://127.0.0.1:1/x", "git://127.0.0.1:1/x", "ftp://127.0.0.1:1/x", "https://"),
        *("ssh://-oProxyCommand=touch%20pwned/x", "-oProxyCommand=x@host:y", "https:///x"),
        *("git@-oProxyCommand=touch:x", "git@host::x", "https://host/a\nb", "https://host/a b"),
        *("https://[::1/x", "ssh://[/x", "HTTPS:example.com/x"),
    ],
)
async def test_an_address_that_git_could_run_or_misread_is_refused(
    fetch: Fetcher, tmp_path: Path, repo: str
) -> None:
    message = await fetch.refusal(repo, "main")

    assert "template_source.repo" in message
    assert not fetch.target.exists(), "nothing was started for it"
    assert not _made_anywhere(tmp_path)


async def test_a_repository_on_the_agents_disk_is_refused_unless_allowed(
    repository: Repository, fetch: Fetcher
) -> None:
    message = await fetch.refusal(repository.url, "main", allow_file=False)

    assert "TENDRIL_ALLOW_FILE_REPOS" in message
    assert not fetch.target.exists()
    assert await fetch(repository.url, "main", allow_file=True)


def _config(home: Path, *lines: str) -> None:
    (home / ".gitconfig").write_text("\n".join(lines) + "\n")


async def test_a_rewritten_address_cannot_start_another_transport(
    home: Path, fetch: Fetcher, tmp_path: Path
) -> None:
    _config(
        home,
        "[protocol]\n allow = always",
        f'[url "ext::touch {tmp_path}/pwned "]\n insteadOf = https://rewritten.invalid/',
    )

    message = await fetch.refusal("https://rewritten.invalid/x", "main")

    assert "transport 'ext' not allowed" in message
    assert not _made_anywhere(tmp_path)


async def test_an_ext_transport_in_a_submodule_is_never_run(
    repository: Repository, home: Path, fetch: Fetcher, tmp_path: Path
) -> None:
    _config(home, "[protocol]\n allow = always", "[submodule]\n recurse = true\n active = .")
    url = f"ext::touch {tmp_path}/pwned"
    repository.write(".gitmodules", f'[submodule "sub"]\n path = sub\n url = {url}\n')
    commit = repository.git("rev-parse", "HEAD")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
    repository.git("add", ".gitmodules")
    repository.git("commit", "--quiet", "--message=a submodule")

    checkout = await fetch(repository.url, "main")

    assert not _made_anywhere(tmp_path)
    assert list((checkout.root_module / "sub").iterdir()) == []


async def test_hooks_of_the_machine_are_not_run(
    repository: Repository, home: Path, fetch: Fetcher, tmp_path: Path
) -> None:
    hook = tmp_path / "git-template" / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/pwned\n")
    hook.chmod(0o755)
    _config(home, f"[init]\n templateDir = {tmp_path}/git-template")

    await fetch(repository.url, "main")

    assert not _made_anywhere(tmp_path)


@pytest.mark.parametrize(
    "user", ["user:secret", "secret", "user:top@secret", "user:p%40secret", "oauth2:gho_secret"]
)
async def test_credentials_in_an_address_are_never_in_the_message(
    fetch: Fetcher, user: str
) -> None:
    unreachable = await fetch.refusal(f"https://{user}@127.0.0.1:1/x", "v1.0.0")
    refused = await fetch.refusal(f"http://{user}@127.0.0.1:1/x", "v1.0.0")

    assert "127.0.0.1:1" in unreachable
    assert "secret" not in unreachable
    assert "127.0.0.1:1" in refused
    assert "secret" not in refused


async def test_credentials_of_a_local_address_are_not_in_the_message(fetch: Fetcher) -> None:
    message = await fetch.refusal("file://user:secret@/x", "main", allow_file=False)

    assert "secret" not in message


class _AsksForAPassword(BaseHTTPRequestHandler):
    """Lets nobody in; keeps what it was told, and what stood in the list of processes then."""

    authorizations: ClassVar[list[str | None]] = []
    command_lines: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.authorizations.append(self.headers["Authorization"])
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                self.command_lines.add(file.read_text(errors="replace").replace("\0", " "))
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="templates"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def locked_host(tmp_path: Path) -> Iterator[str]:
    """``host:port`` of an HTTPS server that lets nobody in."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-keyout",
                key,
                "-out",
                certificate,
                "-days",
                "1",
                "-subj",
                "/CN=localhost",
            ),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ThreadingHTTPServer(("127.0.0.1", 0), _AsksForAPassword) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


async def test_nobody_is_asked_for_a_password(locked_host: str, fetch: Fetcher) -> None:
    trusting = Fetcher(fetch.folder, {**fetch.env, "GIT_SSL_NO_VERIFY": "1"})

    message = await trusting.refusal(f"https://{locked_host}/x", "main")

    assert "terminal prompts disabled" in message
    assert "the agent's credentials may read it" in message


async def test_a_password_that_is_refused_is_not_shown(locked_host: str, fetch: Fetcher) -> None:
    trusting = Fetcher(fetch.folder, {**fetch.env, "GIT_SSL_NO_VERIFY": "1"})

    message = await trusting.refusal(f"https://user:secret@{locked_host}/x", "main")

    assert "Authentication failed" in message
    assert "secret" not in message


async def test_ssh_never_asks_either(fetch: Fetcher, tmp_path: Path) -> None:
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\necho "ssh was given: $*" >&2\nexit 255\n')
    ssh.chmod(0o755)
    env = {**fetch.env, "PATH": f"{ssh.parent}:{fetch.env['PATH']}"}

    message = await Fetcher(fetch.folder, env).refusal("git@templates.invalid:acme/x.git", "main")

    assert "ssh was given: -oBatchMode=yes" in message


async def test_a_host_that_never_answers_is_given_up(fetch: Fetcher) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun_at = anyio.current_time()

        message = await fetch.refusal(f"https://127.0.0.1:{port}/x", "main", timeout_s=0.5)

    assert f"git ls-remote for https://127.0.0.1:{port}/x was stopped" in message
    assert "within 0.5 s (TENDRIL_GIT_TIMEOUT_S)" in message
    assert anyio.current_time() - begun_at < _PROMPT_S


async def test_credentials_in_an_address_are_used_and_never_stand_in_argv(
    locked_host: str, fetch: Fetcher
) -> None:
    trusting = Fetcher(fetch.folder, {**fetch.env, "GIT_SSL_NO_VERIFY": "1"})
    _AsksForAPassword.authorizations.clear()
    _AsksForAPassword.command_lines.clear()

    message = await trusting.refusal(f"https://some%20user:s3%2Fcr%40t@{locked_host}/x", "main")

    assert "Authentication failed" in message
    wanted = base64.b64encode(b"some user:s3/cr@t").decode()
    assert f"Basic {wanted}" in _AsksForAPassword.authorizations
    assert any("ls-remote" in line for line in _AsksForAPassword.command_lines)
    for secret in ("s3/cr@t", "s3%2Fcr%40t"):
        assert secret not in message
        assert not any(secret in line for line in _AsksForAPassword.command_lines)
