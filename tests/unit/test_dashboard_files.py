"""What the dashboard answers to which path, and that its files are what they are said to be."""

import hashlib
import re
from pathlib import Path

import anyio.to_thread
import httpx
import orjson
import pytest

from tendril_rt.errors import LocalError
from tendril_rt.local.dashboard.files import STATIC, Target, answer, export
from tendril_rt.local.dashboard.server import serving

HERE = Target("", "anon")
THERE = Target("https://trellis.example.com", "anon")
OURS = sorted([*(STATIC / "js").rglob("*.js"), *(STATIC / "css").glob("*.css")])
_MAX_LINES = 300
_MAX_COLUMNS = 120
_IMPORT = re.compile(r'^import .*?from "(.+?)";', re.MULTILINE | re.DOTALL)


def test_the_vendored_files_are_those_of_the_manifest() -> None:
    folder = STATIC / "vendor"
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    said = {name: one["sha256"] for entry in manifest for name, one in entry["files"].items()}
    there = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.name != "manifest.json"
    }
    assert there == said
    assert {entry["licence"] for entry in manifest} == {"MIT"}
    for entry in manifest:
        assert any(name.endswith(".LICENSE") for name in entry["files"]), entry["package"]
        assert re.fullmatch(r"\d+\.\d+\.\d+", entry["version"])


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_our_own_files_are_short_and_say_what_they_are(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= _MAX_LINES
    assert lines[0].startswith("/*"), "no comment: what does it own, and why?"
    if path.suffix == ".js":
        assert [n for n, line in enumerate(lines, 1) if len(line) > _MAX_COLUMNS] == []


@pytest.mark.parametrize("path", sorted((STATIC / "js").rglob("*.js")), ids=lambda path: path.name)
def test_every_import_names_a_file(path: Path) -> None:
    for name in _IMPORT.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / name).is_file(), name


def test_the_start_page_runs_nothing_inline_and_nothing_of_others() -> None:
    page = (STATIC / "index.html").read_text()
    assert (
        re.findall(
            r"<script(?![^>]* src=)|<style| style=| on[a-z]+=|(?:src|href)=\"(?:https?:)?//", page
        )
        == []
    )
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert answer(name, HERE).status == 200, name


@pytest.mark.parametrize(
    ("target", "sources"),
    [
        (HERE, "connect-src 'self';"),
        (THERE, "connect-src 'self' https://trellis.example.com wss://trellis.example.com;"),
        (
            Target("http://127.0.0.1:9", "k"),
            "connect-src 'self' http://127.0.0.1:9 ws://127.0.0.1:9;",
        ),
    ],
)
def test_pages_may_speak_to_their_control_plane_only(target: Target, sources: str) -> None:
    found = answer("/", target)
    policy = found.headers["Content-Security-Policy"]
    assert sources in policy
    assert f'content="{policy.split(" frame-ancestors")[0].rstrip(";")}"' in found.body.decode()
    assert "unsafe" not in policy
    assert "*" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")


@pytest.mark.parametrize(
    "path",
    [
        "../files.py",
        "/../../plane.py",
        "js/../../files.py",
        "js",
        "nope.js",
        "vendor/xterm.LICENSE",
    ],
)
def test_other_paths_are_not_there(path: str) -> None:
    assert answer(path, HERE).status == 404


def test_the_configuration_names_the_control_plane() -> None:
    found = answer("config.json", THERE)
    assert found.headers["Content-Type"] == "application/json"
    assert orjson.loads(found.body) == {"url": "https://trellis.example.com", "anon_key": "anon"}


@pytest.mark.parametrize("url", ["trellis.example.com", "javascript:alert(1)", "https://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(LocalError, match="not the URL"):
        Target(url, "k")


def test_an_export_is_complete(tmp_path: Path) -> None:
    export(tmp_path / "site", THERE)
    for path in OURS:
        assert (tmp_path / "site" / path.relative_to(STATIC)).read_bytes() == path.read_bytes()
    assert orjson.loads((tmp_path / "site" / "config.json").read_bytes())["anon_key"] == "anon"
    assert THERE.sources in (tmp_path / "site" / "index.html").read_text()
    with pytest.raises(LocalError, match="needs the URL"):
        export(tmp_path / "site", HERE)


async def test_a_server_of_its_own_answers_the_same() -> None:
    async with serving(THERE) as url, httpx.AsyncClient(base_url=url) as client:
        page = await client.get("/")
        expected = await anyio.to_thread.run_sync(answer, "/", THERE)
        assert page.content == expected.body
        assert (
            page.headers["Content-Security-Policy"] == expected.headers["Content-Security-Policy"]
        )
        assert (await client.head("/js/main.js")).status_code == 200
        assert (await client.get("/..%2ffiles.py")).status_code == 404
        assert (await client.post("/")).status_code == 501


@pytest.mark.parametrize(("target", "host"), [(THERE, "0.0.0.0"), (HERE, "127.0.0.1")])  # noqa: S104 - refused
async def test_a_server_of_its_own_is_for_this_machine(target: Target, host: str) -> None:
    with pytest.raises(LocalError):
        async with serving(target, host=host):
            pass
