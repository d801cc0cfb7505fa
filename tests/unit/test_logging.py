"""The agent's own log: fields that say what belongs together, and never a secret."""

import hashlib
import json
import logging
from collections.abc import Iterator

import anyio
import pytest

from tendril_rt.agent.correlation import correlated
from tendril_rt.cli.logging import configure, masking

TOKEN = 'tdl_a+secret"with\\quotes'
KEY = "sb_publishable_key"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoiYW5vbiJ9.c2lnbmF0dXJl"
_log = logging.getLogger("tendril_rt.runner.git")  # a module that knows of no attempt


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def configured(form: str) -> None:
    configure("info", form, secrets=(TOKEN, KEY))


def test_json_has_the_fields_of_the_task_as_keys(capsys: pytest.CaptureFixture[str]) -> None:
    configured("json")
    with correlated(agent="a1", cluster="c1"), correlated(provision="p1", attempt=2):
        _log.info("cloning %s", "it")
    line = json.loads(capsys.readouterr().err)
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "tendril_rt.runner.git",
        "agent": "a1",
        "cluster": "c1",
        "provision": "p1",
        "attempt": 2,
        "message": "cloning it",
    }


def test_a_console_shows_the_beginning_of_the_provisions_id(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configured("console")
    with correlated(agent="a1", provision="0123456789ab-cdef", attempt=2):
        _log.warning("slow")
    _log.info("alone")
    first, second = capsys.readouterr().err.splitlines()
    assert first[10:] == "WARNING [01234567] slow"
    assert second[10:] == "INFO    alone"


async def test_tasks_carry_their_own_fields_and_those_of_whoever_started_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configured("json")

    async def attempt(name: str) -> None:
        with correlated(provision=name):
            await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as steps:
                steps.start_soon(step, name)

    async def step(name: str) -> None:
        await anyio.lowlevel.checkpoint()
        _log.info("%s", name)

    with correlated(agent="a1"):
        async with anyio.create_task_group() as attempts:
            attempts.start_soon(attempt, "p1")
            attempts.start_soon(attempt, "p2")
        _log.info("none")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {(line["message"], line.get("provision")) for line in lines} == {
        ("p1", "p1"),
        ("p2", "p2"),
        ("none", None),
    }
    assert {line["agent"] for line in lines} == {"a1"}


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "secret",
    [TOKEN, KEY, hashlib.sha256(TOKEN.encode()).hexdigest(), JWT, "jane:hunter22", "x-oauth-tok"],
    ids=["token", "key", "token's hash", "jwt", "credentials", "user alone"],
)
def test_a_secret_is_masked_wherever_it_stands(
    form: str, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(form)
    shown = f"https://{secret}@host/x" if ":" in secret or "oauth" in secret else secret
    _log.info("message %s", shown)
    _log.info("url %s", {"args": [shown]})
    _log.error("trace", exc_info=ValueError(f"cannot {shown}"))
    _log.info("stack", stack_info=True)
    written = capsys.readouterr().err
    assert secret not in written
    assert json.dumps(secret)[1:-1] not in written
    assert repr(secret)[1:-1] not in written
    assert written.count("***") >= 3
    assert "ValueError: cannot" in written


def test_masks_leave_the_rest_of_a_line() -> None:
    mask = masking([TOKEN, ""])
    assert mask("git clone https://jane:pw@host/x.git failed") == (
        "git clone https://***@host/x.git failed"
    )
    assert mask("see https://host/x@y and a@b.c") == "see https://host/x@y and a@b.c"
    assert mask(f"<{TOKEN}>") == "<***>"


def test_a_secret_that_begins_another_leaves_no_rest_of_it() -> None:
    assert masking(["abc", "abcdef"])("abcdef abc") == "*** ***"


def test_libraries_that_log_urls_with_keys_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    configured("console")
    for name in ("httpx", "websockets.client", "realtime._async.client"):
        logging.getLogger(name).error("wss://host/?apikey=%s", KEY)
    assert capsys.readouterr().err == ""
