"""Signing in with grape: what is kept, how it is renewed, and every way in which it is refused."""

import os
import pty
import stat
import subprocess
from pathlib import Path

import orjson
import pytest

from tests.conftest import RunningPlane

from .grape_support import GRAPE, Grape, new_grape

pytestmark = pytest.mark.integration


@pytest.fixture
def grape(plane: RunningPlane, tmp_path: Path) -> Grape:
    return new_grape(plane, tmp_path / "config")


def test_nothing_works_before_a_project_and_a_user_are_known(grape: Grape) -> None:
    unknown = grape("clusters", "list")
    stranger = grape("whoami", GRAPE_URL=grape.plane.url, GRAPE_KEY=grape.plane.anon_key)
    assert unknown.code == 2
    assert "GRAPE_URL is not set" in unknown.err
    assert "GRAPE_KEY is not set" in unknown.err
    assert "grape login --url" in unknown.err
    assert stranger.code == 4
    assert "you are not signed in to" in stranger.err


def test_a_session_is_kept_for_its_user_alone_and_forgotten_again(grape: Grape) -> None:
    who = grape.sign_in()("whoami", "--json")
    folder = grape.session_file.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    kept = grape.session_file.read_text()
    out = grape("logout")
    after = grape("whoami")
    assert who.json == {
        "url": grape.plane.url,
        "email": grape.email,
        "user_id": orjson.loads(kept)["user_id"],
    }
    assert modes == {"project.json": 0o600, "session.json": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert grape.password not in kept
    assert (out.code, out.err) == (0, f"signed out {grape.email}\n")
    assert not grape.session_file.exists()
    assert after.code == 4
    assert grape("logout").err == "nobody was signed in\n"


def test_the_project_is_remembered_for_the_next_login(grape: Grape) -> None:
    grape.sign_in()("logout")
    again = grape("login", grape.email, "--password-stdin", stdin=grape.password)
    assert again.code == 0, again.err
    assert grape.plane.url in again.err


def test_a_wrong_password_is_refused_and_leaves_nothing(grape: Grape) -> None:
    project = ("--url", grape.plane.url, "--key", grape.plane.anon_key)
    wrong = grape("login", grape.email, *project, "--password-stdin", stdin="wrong\n")
    assert wrong.code == 4
    assert f"refused {grape.email}: Invalid login credentials" in wrong.err
    assert not grape.session_file.exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1", "no answer from 127.0.0.1:1"),
        ("http://no-such-host.invalid", "no answer from no-such-host.invalid"),
    ],
)
def test_without_a_network_it_says_so(grape: Grape, url: str, said: str) -> None:
    login = grape(
        "login", "x@example.com", "--url", url, "--key", "k", "--password-stdin", stdin="p"
    )
    listing = grape("clusters", "list", GRAPE_URL=url, GRAPE_KEY="k", GRAPE_TOKEN="t")
    assert (login.code, listing.code) == (5, 5)
    assert said in login.err
    assert "no answer from" in listing.err
    assert "Check GRAPE_URL" in listing.err


def test_the_password_is_asked_for_without_being_shown(grape: Grape) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*GRAPE, "login", grape.email, "--url", grape.plane.url, "--key", grape.plane.anon_key],
        env=grape.environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    while b"password: " not in seen:
        seen += os.read(ours, 1024)
    os.write(ours, grape.password.encode() + b"\n")
    while b"signed in" not in seen:
        seen += os.read(ours, 1024)
    assert process.wait(20) == 0
    os.close(ours)
    assert grape.password.encode() not in seen


def test_nobody_is_asked_where_nobody_is(grape: Grape) -> None:
    project = {"GRAPE_URL": grape.plane.url, "GRAPE_KEY": grape.plane.anon_key}
    assert "no e-mail address" in grape("login", **project).err
    assert "use --password-stdin" in grape("login", grape.email, **project).err


def test_a_session_is_renewed_before_its_token_is_used_up(grape: Grape) -> None:
    grape.sign_in()
    grape.expire()
    before = grape.session_file.read_bytes()
    assert grape("clusters", "list").code == 0
    after = orjson.loads(grape.session_file.read_bytes())
    assert after["refresh_token"] != orjson.loads(before)["refresh_token"]
    assert after["renew_at"] > 0


def test_many_grapes_at_once_do_not_use_up_one_anothers_refresh_token(grape: Grape) -> None:
    grape.sign_in()
    grape.expire()
    processes = [grape.start("whoami", "--json") for _ in range(4)]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0] * 4, ended
    grape.expire()
    assert grape("whoami").code == 0  # the session lives on


def test_a_session_that_was_ended_elsewhere_says_to_sign_in_again(grape: Grape) -> None:
    grape.sign_in()
    stolen = grape.session_file.read_bytes()
    grape("logout")
    grape.session_file.write_bytes(stolen)
    grape.expire()
    refused = grape("clusters", "list")
    assert refused.code == 4
    assert "your session has ended" in refused.err
    assert "grape login" in refused.err
    assert "Traceback" not in refused.err


def test_a_token_of_the_environment_stands_in_for_a_session(grape: Grape) -> None:
    token = grape.plane.user_token
    project = {"GRAPE_URL": grape.plane.url, "GRAPE_KEY": grape.plane.anon_key}
    who = grape("whoami", GRAPE_TOKEN=token, **project)
    login = grape("login", grape.email, GRAPE_TOKEN=token, **project)
    odd = grape("whoami", GRAPE_TOKEN="ключ", **project)
    assert (who.code, "by GRAPE_TOKEN" in who.out) == (0, True)
    assert (login.code, "GRAPE_TOKEN is set" in login.err) == (2, True)
    assert (odd.code, "GRAPE_TOKEN must be printable ASCII" in odd.err) == (2, True)


def test_a_broken_file_is_named_with_the_cure(grape: Grape) -> None:
    grape.sign_in()
    grape.session_file.write_text('{"url": 1}')
    broken = grape("whoami")
    assert broken.code == 2
    assert f"{grape.session_file} cannot be read" in broken.err
    assert "remove it, sign in again" in broken.err or "remove it and sign in again" in broken.err


def test_a_session_of_one_project_is_not_shown_to_another(grape: Grape) -> None:
    grape.sign_in()
    other = grape("clusters", "list", GRAPE_URL="http://127.0.0.1:1")
    assert other.code == 4
    assert "not signed in to http://127.0.0.1:1" in other.err
