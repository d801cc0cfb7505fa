"""Fetching templates from real repositories, and refusing what a row should not make git do."""

import socket
from pathlib import Path

import anyio
import pytest

from .git_support import MAIN_TF, Fetcher, Repository, version_in

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.git_fixtures"]

_PROMPT_S = 5.0


def _made_anywhere(folder: Path) -> list[Path]:
    """Return the files that a command smuggled in would have made."""
    return list(folder.rglob("pwned"))


@pytest.mark.parametrize("kind", ["tag", "annotated tag", "branch", "commit"])
async def test_exactly_the_commit_that_the_version_names_is_checked_out(
    repository: Repository, fetch: Fetcher, kind: str
) -> None:
    repository.write("main.tf", MAIN_TF % "wanted")
    wanted = repository.commit()
    version = {"commit": wanted}.get(kind, "v1.2.0")
    if kind != "commit":
        kinds = {"tag": ["tag"], "annotated tag": ["tag", "--message=x"], "branch": ["branch"]}
        repository.git(*kinds[kind], "v1.2.0")
    repository.write("main.tf", MAIN_TF % "later")
    repository.commit()

    checkout = await fetch(repository.url, version)

    assert checkout.commit == wanted
    assert checkout.root_module == fetch.target
    assert version_in(checkout) == "wanted"


async def test_a_tag_wins_over_a_branch_of_the_same_name(
    repository: Repository, fetch: Fetcher
) -> None:
    wanted = repository.git("rev-parse", "HEAD")
    repository.git("tag", "stable")
    repository.git("branch", "stable")
    repository.git("checkout", "--quiet", "-B", "stable")
    repository.write("main.tf", MAIN_TF % "moved")
    repository.commit()

    assert (await fetch(repository.url, "stable")).commit == wanted


async def test_a_full_commit_wins_over_a_branch_that_borrows_its_name(
    repository: Repository, fetch: Fetcher
) -> None:
    wanted = repository.git("rev-parse", "HEAD")
    repository.write("main.tf", MAIN_TF % "someone else's")
    other = repository.commit()
    repository.git("update-ref", f"refs/heads/{wanted}", other)

    assert (await fetch(repository.url, wanted)).commit == wanted


async def test_the_template_may_lie_in_a_folder(repository: Repository, fetch: Fetcher) -> None:
    repository.write("stacks/network/main.tf", MAIN_TF % "network")
    repository.commit()

    checkout = await fetch(repository.url, "main", "stacks/network")

    assert checkout.root_module == fetch.target / "stacks" / "network"
    assert version_in(checkout) == "network"


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


async def test_of_very_many_names_the_right_one_is_found(
    repository: Repository, fetch: Fetcher
) -> None:
    wanted = repository.git("rev-parse", "HEAD")
    names = "".join(f"{wanted} refs/tags/{'x' * 80}{number}\n" for number in range(12_000))
    (repository.path / ".git" / "packed-refs").write_text(f"# pack-refs with: sorted\n{names}")
    repository.git("tag", "--message=x", "y-last")

    assert (await fetch(repository.url, "y-last")).commit == wanted


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


@pytest.mark.parametrize("path", ["..", "../outside", "/etc", "a/../../outside"])
async def test_a_folder_outside_of_the_repository_is_refused(
    repository: Repository, fetch: Fetcher, tmp_path: Path, path: str
) -> None:
    (tmp_path / "outside").mkdir()
    for folder in (tmp_path, tmp_path / "outside"):
        (folder / "main.tf").write_text(MAIN_TF % "not yours")

    assert "leads out of the repository" in await fetch.refusal(repository.url, "main", path)


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("main.tf", "/etc/shadow"),
        ("modules/a/secret.auto.tfvars", "../../../home/secret"),
        ("outside", ".."),
        ("outside", "../templates-of-somebody-else"),
        ("modules/a/loop-out", "../a/../../../x"),
        ("dangling", "/nowhere/at/all"),
    ],
)
async def test_a_link_out_of_the_repository_is_refused_wherever_it_is(
    repository: Repository, fetch: Fetcher, link: str, target: str
) -> None:
    path = repository.path / link
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    repository.write("stack/main.tf", MAIN_TF % "stack")
    repository.commit()

    message = await fetch.refusal(repository.url, "main", "stack")

    assert f"{link!r} is a link that leads out of the repository" in message


async def test_a_link_through_another_link_is_followed_to_its_end(
    repository: Repository, fetch: Fetcher
) -> None:
    (repository.path / "inner").symlink_to(".")
    (repository.path / "outer").symlink_to("inner/../..")
    repository.commit()

    assert "'outer' is a link" in await fetch.refusal(repository.url, "main")


async def test_links_within_the_repository_are_what_they_were(
    repository: Repository, fetch: Fetcher
) -> None:
    repository.write("modules/vpc/main.tf", MAIN_TF % "module")
    (repository.path / "stack").symlink_to("modules/vpc")
    (repository.path / "later").symlink_to("modules/made-later")
    repository.commit()

    checkout = await fetch(repository.url, "main", "stack")

    assert version_in(checkout) == "module"
    assert (fetch.target / "stack").is_symlink()


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


async def test_no_filter_of_the_machine_runs_on_what_a_template_asks_for(
    repository: Repository, home: Path, fetch: Fetcher, tmp_path: Path
) -> None:
    repository.write(".gitattributes", "*.tf filter=pwn diff=pwn\n*.bin filter=lfs\n")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    repository.write("large.bin", pointer)
    repository.commit()
    _config(
        home,
        f'[filter "pwn"]\n smudge = touch {tmp_path}/pwned\n required = true',
        f'[filter "lfs"]\n process = touch {tmp_path}/pwned\n required = true',
        "[core]\n autocrlf = true",
    )

    checkout = await fetch(repository.url, "main")

    assert not _made_anywhere(tmp_path)
    assert version_in(checkout) == "first"
    assert (fetch.target / "large.bin").read_bytes() == pointer.encode(), "not fetched, not changed"


async def test_configuration_that_a_repository_carries_is_only_a_file(
    repository: Repository, fetch: Fetcher, tmp_path: Path
) -> None:
    """A bare repository inside of a template, which git would find from there."""
    inner = repository.path / "inner"
    for name in ("objects", "refs"):
        repository.write(f"inner/{name}/keep", "")
    repository.write("inner/HEAD", "ref: refs/heads/main\n")
    repository.write("inner/config", f"[core]\n fsmonitor = touch {tmp_path}/pwned\n bare = true\n")
    assert inner.is_dir()
    repository.commit()

    assert await fetch(repository.url, "main")
    assert await fetch.into("again")(repository.url, "main")
    assert not _made_anywhere(tmp_path)


@pytest.mark.parametrize("name", [".git/config", "../escaped", ".GIT/config"])
async def test_a_tree_with_a_path_that_git_would_never_write_is_refused(
    repository: Repository, fetch: Fetcher, tmp_path: Path, name: str
) -> None:
    blob = repository.git("hash-object", "-w", "main.tf")
    folder, _, file = name.partition("/")
    inner = repository.make_tree(f"100644 blob {blob}\t{file}\n")
    tree = repository.make_tree(f"100644 blob {blob}\tmain.tf\n040000 tree {inner}\t{folder}\n")
    commit = repository.git("commit-tree", tree, "-m", "hostile")
    repository.git("update-ref", "refs/heads/hostile", commit)

    assert "git read-tree failed" in await fetch.refusal(repository.url, "hostile")
    assert not (tmp_path / "escaped").exists()


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
