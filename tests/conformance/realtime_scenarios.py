"""The recorded frames of Supabase Realtime, replayed over a real socket on a database of their own.

Owns the normalisation that the recordings describe: what the server chooses is bound at its first
sight and must stay the same; pauses in which nothing came are cut to what is worth waiting for.
"""

import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import TypedDict

import anyio
import jwt
import psycopg
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web
from psycopg import sql

from tendril_rt import resources
from tendril_rt.local.gateway.realtime import Realtime
from tendril_rt.local.postgres import Server

SECRET = "conformance-secret-of-at-least-32-bytes"
_WRONG_SECRET = SECRET[::-1]
_FOLDER = Path(__file__).parent / "recordings" / "realtime"
_ANSWER_S = 10.0
_SILENCE_S = 0.2
_ARRAY_FRAME = ("join_ref", "ref", "topic", "event", "payload")  # of vsn 2.0.0
_MARKS = {"int": r"\d+", "ts": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"}
_SHORT_LIVES = {"<now+6 s>": 2}  # long enough to join, and the test need not wait longer
_USER_BROADCAST = bytes([4])  # how a binary frame of vsn 2.0.0 starts
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


class Step(TypedDict, total=False):
    """One line of a recording."""

    dir: str
    frame: dict[str, object] | None
    sql: str
    for_ms: int
    wait_ms: int


class _Request(TypedDict):
    path: str
    headers: dict[str, str]


class _Response(TypedDict):
    status: int
    headers: dict[str, str]
    body: str


class Handshake(TypedDict):
    """One recorded HTTP exchange."""

    name: str
    request: _Request
    response: _Response


def names() -> list[str]:
    """Return every recorded scenario."""
    return sorted({path.stem for path in _FOLDER.glob("*.json")} - {"setup", "handshake"})


def load(name: str) -> dict[str, list[Step]]:
    """Return the recording *name* as it is written."""
    recording: dict[str, list[Step]] = json.loads((_FOLDER / f"{name}.json").read_text())
    return recording


def handshakes() -> list[Handshake]:
    """Return every recorded handshake."""
    cases: list[Handshake] = json.loads((_FOLDER / "handshake.json").read_text())["cases"]
    return cases


def with_tokens(text: str) -> str:
    """Return *text* with a fresh token in place of each ``<jwt:NAME>``."""
    return re.sub(r"<jwt:(\w+)>", lambda mark: token(mark[1]), text)


def token(name: str, **claims: object) -> str:
    """Return a fresh token of the recordings' set-up, with more *claims* if given."""
    wanted = json.loads((_FOLDER / "setup.json").read_text())["tokens"][name]
    body = {**wanted["claims"], **claims}
    if isinstance(life := body.get("exp"), str):
        seconds = _SHORT_LIVES.get(life) or int(re.sub(r"[^\d+-]", "", life))
        body["exp"] = int(time.time()) + seconds
    return jwt.encode(body, SECRET if wanted["signature"] == "good" else _WRONG_SECRET)


def prepare(server: Server) -> None:
    """Make the database ``fresh``: Supabase's bootstrap and the tables of the recordings."""
    setup = json.loads((_FOLDER / "setup.json").read_text())
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("alter system set fsync = off")  # nothing here has to survive a crash
        connection.execute("select pg_reload_conf()")
        connection.execute("create database fresh")
    with psycopg.connect(server.url("fresh"), autocommit=True) as connection:
        connection.execute(resources.read("embedded/supabase.sql"))
        connection.execute(resources.read("embedded/realtime.sql"))
        for statement in setup["sql_owner"] + setup["sql_admin"]:
            connection.execute(statement)


def copy(server: Server) -> str:
    """Return the URL of a new database with fresh tables."""
    name = f"scenario_{uuid.uuid4().hex}"
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template fresh").format(sql.Identifier(name))
        )
    return server.url(name)


@contextmanager
def commits_half_done(url: str) -> Iterator[None]:
    """Make every commit wait for a standby that is none: in the log already, in no snapshot yet."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("alter system set synchronous_standby_names = 'nobody'")
        try:
            connection.execute("select pg_reload_conf()")
            _until_commits_wait(url, connection)
            yield
        finally:
            connection.execute("alter system reset synchronous_standby_names")
            connection.execute("select pg_reload_conf()")


def _until_commits_wait(url: str, observer: psycopg.Connection) -> None:
    """Commit until one waits for the standby: a reload reaches the server a moment later."""
    waiting = "select from pg_stat_activity where pid = %s and wait_event = 'SyncRep'"
    with closing(psycopg.connect(url, autocommit=True)) as probe:
        pid = probe.info.backend_pid
        while True:
            probe.pgconn.send_query(b"select pg_logical_emit_message(true, 'probe', '')")
            while probe.pgconn.is_busy():
                if observer.execute(waiting, (pid,)).fetchone() is not None:
                    observer.execute("select pg_cancel_backend(%s)", (pid,))
                    return
                probe.pgconn.consume_input()
            while probe.pgconn.get_result() is not None:
                pass


@asynccontextmanager
async def serving(url: str, *, changes_interval_s: float = 0.0) -> AsyncIterator[str]:
    """Serve Realtime over the database *url*; yield the base address of the HTTP server."""
    async with Realtime.running(url, SECRET, changes_interval_s=changes_interval_s) as realtime:
        application = web.Application()
        for path in ("/socket/websocket", "/realtime/v1/websocket"):
            application.router.add_get(path, realtime.handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"
        finally:
            realtime.hang_up()
            with anyio.move_on_after(_ANSWER_S, shield=True):
                await runner.cleanup()


class Player:
    """One client: sends frames, expects frames.

    With *vsn* 2.0.0 the same frames travel as arrays, and the server's name their join as well.
    """

    def __init__(self, socket: ClientWebSocketResponse, vsn: str) -> None:
        self._socket = socket
        self._has_arrays = vsn == "2.0.0"
        self._joins: dict[str, set[object]] = {}
        self._tokens: dict[str, str] = {}
        self._bound: dict[str, object] = {}
        self._started_at_ms = 0

    async def play(self, steps: list[Step], url: str) -> None:
        """Go through *steps*; SQL runs on the database *url*. Pauses between frames are skipped."""
        self._started_at_ms = int(time.time() * 1000)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as database:
            for step in steps:
                if "wait_ms" in step:
                    continue
                if "sql" in step:
                    await database.execute(step["sql"].encode())
                elif step["dir"] == "send":
                    await self.send(step["frame"])
                elif step["frame"] is None:
                    await self.expect_silence()
                else:
                    self._compare(step["frame"], await self.receive(), "frame")

    async def send(self, frame: object) -> None:
        """Send *frame*, with a token in place of each ``<jwt:NAME>``."""
        if self._has_arrays and isinstance(frame, dict):
            self._joins.setdefault(frame["topic"], set()).add(frame.get("join_ref"))
            frame = [frame.get(name) for name in _ARRAY_FRAME]
        text = json.dumps(frame).replace('"<ts ms>"', str(self._started_at_ms))
        await self._socket.send_str(re.sub(r"<jwt:(\w+)>", lambda m: self._token(m[1]), text))

    async def receive(self) -> dict[str, object]:
        """Return the next frame."""
        message = await self._socket.receive(timeout=_ANSWER_S)
        if message.type is WSMsgType.BINARY and self._has_arrays:
            return _user_broadcast(message.data)
        assert message.type is WSMsgType.TEXT, message
        frame = json.loads(message.data)
        if self._has_arrays:
            frame = dict(zip(_ARRAY_FRAME, frame, strict=True))
            assert frame.pop("join_ref") in self._joins[frame["topic"]]
        assert isinstance(frame, dict)
        return frame

    async def expect_silence(self) -> None:
        """Fail if a frame comes."""
        with anyio.move_on_after(_SILENCE_S):
            raise AssertionError(f"unexpected: {await self._socket.receive()}")

    async def join(self, topic: str, access_token: str, **binding: str) -> None:
        """Join *topic* with one binding; every event unless it names one."""
        config = {"postgres_changes": [{"event": "*", "schema": "public", **binding}]}
        payload = {"config": config, "access_token": access_token}
        frame = {"topic": f"realtime:{topic}", "event": "phx_join", "payload": payload}
        await self.send({**frame, "ref": "1", "join_ref": "1"})
        assert (await self.receive())["event"] == "phx_reply"

    async def subscribe(self, topic: str, access_token: str, **binding: str) -> None:
        """Join *topic* and wait until changes are delivered."""
        await self.join(topic, access_token, **binding)
        await self.expect_subscribed()

    async def expect_subscribed(self) -> None:
        """Wait for the message that says that changes are delivered from now on."""
        frame = await self.receive()
        assert frame["event"] == "system"
        assert "Subscribed to PostgreSQL" in str(frame), frame

    async def join_private(
        self, topic: str, access_token: str, *bindings: dict[str, str], **broadcast: object
    ) -> str:
        """Join the private *topic*, with broadcasts and *bindings*.

        :return: why it was refused; empty if it was not
        """
        config = {
            "private": True,
            "broadcast": {"ack": False, "self": False, **broadcast},
            "presence": {"key": "", "enabled": False},
            "postgres_changes": list(bindings),
        }
        payload = {"config": config, "access_token": access_token}
        frame = {"topic": f"realtime:{topic}", "event": "phx_join", "payload": payload}
        await self.send({**frame, "ref": "1", "join_ref": "1"})
        reply = await self.receive()
        assert reply["event"] == "phx_reply"
        answer = reply["payload"]
        assert isinstance(answer, dict)
        return str(answer["response"].get("reason", ""))

    async def listen(self, topic: str, access_token: str) -> None:
        """Join the private *topic* and wait until broadcasts flow."""
        assert await self.join_private(topic, access_token, replication_ready=True) == ""
        assert await self.system() == "Replication connection established"

    async def renew(self, topic: str, access_token: str) -> None:
        """Hand in another token."""
        frame = {"topic": f"realtime:{topic}", "event": "access_token", "ref": "2"}
        await self.send({**frame, "payload": {"access_token": access_token}})

    async def system(self) -> str:
        """Return what the next frame says, which must be a ``system`` message."""
        frame = await self.receive()
        assert frame["event"] == "system", frame
        payload = frame["payload"]
        assert isinstance(payload, dict)
        return str(payload["message"])

    async def broadcast(self) -> tuple[str, dict[str, object]]:
        """Return event and payload of the next frame, which must be a broadcast."""
        frame = await self.receive()
        assert frame["event"] == "broadcast", frame
        payload = frame["payload"]
        assert isinstance(payload, dict)
        return payload["event"], payload["payload"]

    async def change(self) -> dict[str, object]:
        """Return the ``data`` of the next frame, which must be a change."""
        frame = await self.receive()
        assert frame["event"] == "postgres_changes", frame
        payload = frame["payload"]
        assert isinstance(payload, dict)
        data: dict[str, object] = payload["data"]
        return data

    async def frames_until_closed(self) -> int:
        """Return how many frames still come before the server's end of the connection."""
        count = 0
        with anyio.fail_after(_ANSWER_S):
            while (await self._socket.receive()).type is WSMsgType.TEXT:
                count += 1
        return count

    def _token(self, name: str) -> str:
        return self._tokens.setdefault(name, token(name))

    def _compare(self, wanted: object, got: object, where: str) -> None:
        if isinstance(wanted, dict):
            assert isinstance(got, dict), where
            assert got.keys() == wanted.keys(), where
            for key, value in wanted.items():
                self._compare(value, got[key], f"{where}.{key}")
        elif isinstance(wanted, list):
            assert isinstance(got, list), where
            assert len(got) == len(wanted), where
            for number, value in enumerate(wanted):
                self._compare(value, got[number], f"{where}[{number}]")
        elif isinstance(wanted, str) and (mark := re.fullmatch(r"<(int|uuid):\d+>", wanted)):
            is_fit = isinstance(got, int) if mark[1] == "int" else re.fullmatch(_UUID, str(got))
            assert is_fit, where
            assert got == self._bound.setdefault(mark[0], got), where
        elif isinstance(wanted, str) and re.search("<(int|ts)>", wanted):
            pattern = re.sub(
                r"<(int|ts)>", lambda m: _MARKS[m[1]], re.sub(r"([.:()])", r"\\\1", wanted)
            )
            assert re.fullmatch(pattern, str(got)), f"{where}: {got}"
        else:
            assert got == wanted, where
            assert type(got) is type(wanted), where


def _user_broadcast(data: bytes) -> dict[str, object]:
    """Return the frame that stands for a binary one, as supabase-js takes it apart."""
    sizes, encoding, rest = data[1:4], data[4], data[5:]
    assert data.startswith(_USER_BROADCAST)
    assert encoding == 1, "not JSON"
    parts = []
    for size in sizes:
        parts.append(rest[:size].decode())
        rest = rest[size:]
    topic, event, meta = parts
    payload = {"type": "broadcast", "event": event, "payload": json.loads(rest)}
    payload["meta"] = json.loads(meta)
    return {"ref": None, "topic": topic, "event": "broadcast", "payload": payload}


@asynccontextmanager
async def connected(
    base: str, *, apikey: str | None = None, vsn: str = "1.0.0"
) -> AsyncIterator[Player]:
    """Open a socket at *base*."""
    address = f"{base}/realtime/v1/websocket?vsn={vsn}&apikey={apikey or token('anon')}"
    async with ClientSession() as session, session.ws_connect(address) as socket:
        yield Player(socket, vsn)
