"""Kept repositories: cheap the second time, safe with many at once, and never trusted blindly."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from tendril_rt.runner import flock
from tendril_rt.runner.disk import used_bytes

from .git_support import ENV, MAIN_TF, Fetcher, Host, Repository, version_in
from .runner_support import open_descriptors, until

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.git_fixtures"]


@pytest.fixture
def spied(fetch: Fetcher, tmp_path: Path) -> Fetcher:
    """Checkouts by a git that notes how it was called, in ``git-calls``."""
    folder = tmp_path / "spy"
    folder.mkdir()
    program = folder / "git"
    real = shutil.which("git", path=ENV["PATH"])
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/git-calls\nexec {real} "$@"\n')
    program.chmod(0o755)
    return replace(fetch, env={**fetch.env, "PATH": f"{folder}:{fetch.env['PATH']}"})


def _commands(fetch: Fetcher) -> list[str]:
    """Return the commands that were run since the last call."""
    calls = fetch.folder / "git-calls"
    known = {"ls-remote", "fetch", "rev-parse", "read-tree"}
    lines = calls.read_text().splitlines()
    calls.unlink()
    return [next(word for word in line.split() if word in known) for line in lines]


def _mirrors(fetch: Fetcher) -> list[Path]:
    return sorted(fetch.mirrors.glob("*.git"))


def _only_mirror(fetch: Fetcher) -> Path:
    (mirror,) = _mirrors(fetch)
    return mirror


async def test_a_commit_that_is_there_costs_one_command_and_a_branch_two(
    repository: Repository, spied: Fetcher
) -> None:
    commit = repository.git("rev-parse", "HEAD")

    await spied.into("1")(repository.url, "main")
    assert _commands(spied) == ["ls-remote", "fetch", "rev-parse", "read-tree"]
    await spied.into("2")(repository.url, "main")
    assert _commands(spied) == ["ls-remote", "read-tree"]
    await spied.into("3")(repository.url, commit)
    assert _commands(spied) == ["read-tree"]


async def test_a_commit_that_is_there_needs_no_network(
    repository: Repository, fetch: Fetcher
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    await fetch.into("1")(repository.url, "main")
    repository.path.rename(repository.path.with_name("gone"))

    checkout = await fetch.into("2")(repository.url, commit)

    assert checkout.commit == commit
    assert version_in(checkout) == "first"
    assert "does not appear to be a git" in await fetch.into("3").refusal(repository.url, "main")


@pytest.mark.parametrize("kind", ["branch", "tag"])
async def test_a_name_that_moved_is_what_it_is_now(
    repository: Repository, fetch: Fetcher, kind: str
) -> None:
    repository.git(kind, "moving")
    await fetch.into("1")(repository.url, "moving")
    repository.write("main.tf", MAIN_TF % "second")
    second = repository.commit()
    repository.git(kind, "--force", "moving")

    checkout = await fetch.into("2")(repository.url, "moving")

    assert checkout.commit == second
    assert version_in(checkout) == "second"
    assert len(_mirrors(fetch)) == 1


async def test_a_template_holds_nothing_that_leads_back_to_what_is_kept(
    repository: Repository, fetch: Fetcher
) -> None:
    checkout = await fetch.into("1")(repository.url, "main")
    names = sorted(path.name for path in checkout.root_module.iterdir())
    file = checkout.root_module / "main.tf"
    links = file.stat().st_nlink
    file.write_text(MAIN_TF % "changed by the template")

    assert names == ["main.tf"]
    assert links == 1
    assert version_in(await fetch.into("2")(repository.url, "main")) == "first"
    assert sorted(path.name for path in fetch.folder.glob("1*")) == ["1"], "no index stays"


async def test_what_is_kept_is_private_and_knows_no_address_but_the_last(
    repository: Repository, fetch: Fetcher
) -> None:
    await fetch(repository.url, "main")

    assert fetch.mirrors.stat().st_mode & 0o777 == 0o700
    assert (fetch.mirrors / "key").stat().st_mode & 0o777 == 0o600
    config = (_only_mirror(fetch) / "config").read_text()
    assert "remote" not in config
    assert "credential" not in config


async def test_many_at_once_fetch_once(repository: Repository, spied: Fetcher) -> None:
    commit = repository.git("rev-parse", "HEAD")
    versions: list[str] = []

    async def check_out(number: int) -> None:
        versions.append(version_in(await spied.into(str(number))(repository.url, commit)))

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(check_out, number)

    assert versions == ["first"] * 8
    assert _commands(spied).count("fetch") == 1


_OTHER_AGENT = """
import anyio, sys
from pathlib import Path
from tendril_rt.model import TemplateSource
from tendril_rt.runner.credentials import Credentials
from tendril_rt.runner.git import Git
from tendril_rt.runner.mirror import Mirrors

path, mirrors, repo, version, into = sys.argv[1:]
kept = Mirrors(Path(mirrors), 10**9)
git = Git({"PATH": path, "HOME": into}, kept, Credentials(), 30, 10**9, True)
print(anyio.run(git.checkout, TemplateSource(repo, version, ""), Path(into)).commit)
"""


def test_agents_that_share_a_disk_fetch_once(repository: Repository, spied: Fetcher) -> None:
    commit = repository.git("rev-parse", "HEAD")
    arguments = (spied.env["PATH"], str(spied.mirrors), repository.url, commit)
    agents = [
        subprocess.Popen(
            [sys.executable, "-c", _OTHER_AGENT, *arguments, str(spied.folder / f"by-{number}")],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]

    answers = [agent.communicate(timeout=30) for agent in agents]

    assert [answer[0].strip() for answer in answers] == [commit] * 3
    assert _commands(spied).count("fetch") == 1


async def test_who_waits_for_another_too_long_says_so(
    repository: Repository, fetch: Fetcher
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    await fetch.into("1")(repository.url, commit)
    lock = flock.take(_only_mirror(fetch).with_suffix(".lock"))
    try:
        message = await fetch.into("2").refusal(repository.url, commit, timeout_s=0.2)
    finally:
        os.close(lock)

    assert "another attempt was fetching the same repository" in message
    assert await fetch.into("3")(repository.url, commit)


def _truncate_packs(mirror: Path) -> None:
    for pack in mirror.glob("objects/pack/*.pack"):
        pack.chmod(0o600)
        with pack.open("r+b") as file:
            file.truncate(20)


def _remove_objects(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects")


def _break_config(mirror: Path) -> None:
    (mirror / "config").write_text("[core\n")


def _lose_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def _leave_locks(mirror: Path) -> None:
    (mirror / "shallow.lock").touch()
    (mirror / "objects" / "pack" / "tmp_pack_x").write_text("half")


_DAMAGES = [_truncate_packs, _remove_objects, _break_config, _lose_head, _leave_locks]


@pytest.mark.parametrize("damage", _DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("version", ["the same", "another"])
async def test_a_damaged_mirror_is_fetched_anew(
    repository: Repository, fetch: Fetcher, damage: object, version: str
) -> None:
    first = repository.git("rev-parse", "HEAD")
    await fetch.into("1")(repository.url, "main")
    repository.write("main.tf", MAIN_TF % "second")
    second = repository.commit()
    assert callable(damage)
    damage(_only_mirror(fetch))

    wanted = first if version == "the same" else second
    checkout = await fetch.into("2")(repository.url, wanted)

    assert checkout.commit == wanted
    assert version_in(checkout) == ("first" if version == "the same" else "second")
    assert not list(fetch.mirrors.rglob("tmp_*")) or version == "the same"
    assert await fetch.into("3")(repository.url, wanted)


async def test_a_refusal_costs_nothing_of_what_is_kept(
    repository: Repository, fetch: Fetcher
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    await fetch.into("1")(repository.url, "main")

    await fetch.into("2").refusal(repository.url, "0123456789" * 4)

    repository.path.rename(repository.path.with_name("gone"))
    assert await fetch.into("3")(repository.url, commit)


# --- limits ---------------------------------------------------------------------------------------


@pytest.fixture
def others(tmp_path: Path, repository: Repository) -> list[Repository]:
    """Three repositories of about 100 kB that do not compress."""
    made = []
    for number in range(3):
        path = tmp_path / f"other-{number}"
        shutil.copytree(repository.path, path)
        other = Repository(path, repository.env)
        (path / "data").write_bytes(os.urandom(100_000))
        other.commit()
        made.append(other)
    return made


async def test_what_was_used_the_longest_ago_goes_first(
    others: list[Repository], fetch: Fetcher
) -> None:
    fetch = replace(fetch, cache_max_bytes=350_000)
    commits = [other.git("rev-parse", "HEAD") for other in others]
    await fetch.into("1")(others[0].url, commits[0])
    first = _only_mirror(fetch)
    await fetch.into("2")(others[1].url, commits[1])
    (second,) = set(_mirrors(fetch)) - {first}
    os.utime(first.with_suffix(".lock"), (1, 1))
    os.utime(second.with_suffix(".lock"), (2, 2))
    await fetch.into("3")(others[0].url, commits[0])  # now the second is the older one

    await fetch.into("4")(others[2].url, commits[2])

    left = _mirrors(fetch)
    assert first in left
    assert second not in left
    assert len(left) == 2
    assert sum(map(used_bytes, left)) <= 350_000
    assert len(list(fetch.mirrors.glob("*.lock"))) == 2


async def test_what_is_in_use_is_not_removed(others: list[Repository], fetch: Fetcher) -> None:
    await fetch.into("1")(others[0].url, "main")
    first = _only_mirror(fetch)
    lock = flock.take(first.with_suffix(".lock"), shared=True)
    try:
        await replace(fetch, cache_max_bytes=0).into("2")(others[1].url, "main")
        assert _mirrors(fetch) == [first]
    finally:
        os.close(lock)


async def test_without_room_nothing_is_kept_and_everything_works(
    repository: Repository, fetch: Fetcher
) -> None:
    fetch = replace(fetch, cache_max_bytes=0)
    for number in range(2):
        assert version_in(await fetch.into(str(number))(repository.url, "main")) == "first"
        assert _mirrors(fetch) == []


async def test_a_fetch_that_is_too_large_is_stopped_and_removed(
    others: list[Repository], fetch: Fetcher
) -> None:
    fetch = replace(fetch, max_bytes=50_000)

    message = await fetch.refusal(others[0].url, "main")

    assert "brings more than 50000 bytes" in message
    assert "TENDRIL_GIT_MAX_BYTES" in message
    assert sum(map(used_bytes, _mirrors(fetch))) < 50_000


async def test_a_fetch_that_never_ends_is_stopped_by_its_size(
    fetch: Fetcher, tmp_path: Path, repository: Repository
) -> None:
    """A git that goes on writing for ever stands in for a remote that goes on sending."""
    folder = tmp_path / "endless"
    folder.mkdir()
    program = folder / "git"
    real = shutil.which("git", path=ENV["PATH"])
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *" fetch "*)\n'
        '  mkdir -p "$GIT_DIR/objects/pack"\n'
        '  while head -c 100000 /dev/zero; do :; done >"$GIT_DIR/objects/pack/tmp_pack_x";;\n'
        f'*) exec {real} "$@";; esac\n'
    )
    program.chmod(0o755)
    endless = replace(
        fetch,
        max_bytes=1_000_000,
        env={**fetch.env, "PATH": f"{folder}:{fetch.env['PATH']}"},
    )

    message = await endless.refusal(repository.url, "main")

    assert "brings more than 1000000 bytes" in message
    assert not list(fetch.mirrors.rglob("tmp_pack_x"))


async def test_a_checkout_that_is_cancelled_leaves_a_mirror_that_works(
    repository: Repository, fetch: Fetcher, tmp_path: Path
) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    program = folder / "git"
    real = shutil.which("git", path=ENV["PATH"])
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *" fetch "*)\n'
        '  mkdir -p "$GIT_DIR/objects/pack"\n'
        '  touch "$GIT_DIR/objects/pack/tmp_pack_x" "$GIT_DIR/shallow.lock"; exec sleep 60;;\n'
        f'*) exec {real} "$@";; esac\n'
    )
    program.chmod(0o755)
    slow = replace(fetch, env={**fetch.env, "PATH": f"{folder}:{fetch.env['PATH']}"})
    before = open_descriptors()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(slow.into("1"), repository.url, "main")
        await until(lambda: list(fetch.mirrors.rglob("shallow.lock")))
        tasks.cancel_scope.cancel()

    assert not list(fetch.mirrors.rglob("tmp_pack_x"))
    assert not list(fetch.mirrors.rglob("shallow.lock"))
    assert open_descriptors() == before
    assert await fetch.into("2")(repository.url, "main")


async def test_a_mirror_of_very_many_versions_begins_anew(
    repository: Repository, fetch: Fetcher
) -> None:
    await fetch.into("1")(repository.url, "main")
    marks = _only_mirror(fetch) / "refs" / "tendril"
    (commit,) = marks.iterdir()
    for number in range(100):
        (marks / f"{number:040x}").write_text(commit.name + "\n")
    repository.write("main.tf", MAIN_TF % "second")
    second = repository.commit()

    await fetch.into("2")(repository.url, "main")

    assert [mark.name for mark in marks.iterdir()] == [second]


async def test_a_repository_of_sha256_ids_is_fetched_too(
    tmp_path: Path, home: Path, fetch: Fetcher
) -> None:
    path = tmp_path / "sha256"
    path.mkdir()
    repository = Repository(path, {**ENV, "HOME": str(home)})
    repository.git("init", "--quiet", "--initial-branch=main", "--object-format=sha256")
    repository.write("main.tf", MAIN_TF % "long ids")
    commit = repository.commit()

    for number, version in enumerate(["main", commit]):
        checkout = await fetch.into(str(number))(repository.url, version)
        assert checkout.commit == commit
        assert version_in(checkout) == "long ids"


# --- the network ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [503, 500, 429, "drop"])
async def test_an_error_of_the_network_or_the_server_is_tried_again(
    repository: Repository, host: Host, fetch_https: Fetcher, fault: int | str
) -> None:
    host.faults = [fault, fault]

    assert version_in(await fetch_https(f"{host.url}/repository", "main")) == "first"


async def test_a_fetch_that_breaks_off_is_tried_again(
    repository: Repository, host: Host, fetch_https: Fetcher
) -> None:
    commit = repository.git("rev-parse", "HEAD")
    host.faults = [0, 0, "half"]

    assert version_in(await fetch_https(f"{host.url}/repository", commit)) == "first"


async def test_after_a_few_tries_it_is_an_error_that_says_so(
    repository: Repository, host: Host, fetch_https: Fetcher
) -> None:
    host.faults = [503] * 50

    message = await fetch_https.refusal(f"{host.url}/repository", "main")

    assert "returned error: 503" in message
    assert "(tried 4 times)" in message
    assert len(host.paths) == 4


@pytest.mark.parametrize("status", [404, 403])
async def test_a_refusal_is_not_tried_again(
    repository: Repository, host: Host, fetch_https: Fetcher, status: int
) -> None:
    host.faults = [status] * 50

    message = await fetch_https.refusal(f"{host.url}/repository", "main")

    assert "tried" not in message
    assert len(host.paths) == 1


async def test_a_host_that_is_not_there_yet_is_tried_again(fetch: Fetcher) -> None:
    message = await fetch.refusal("https://127.0.0.1:1/x", "main")

    assert "(tried 4 times)" in message
    assert "Check that the agent reaches the host" in message


async def test_an_unknown_certificate_is_refused_at_once(
    repository: Repository, host: Host, fetch: Fetcher
) -> None:
    message = await fetch.refusal(f"{host.url}/repository", "main")

    assert "certificate" in message
    assert "tried" not in message
