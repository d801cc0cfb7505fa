"""Whom ``grape`` acts as: a project, and the session that ``grape login`` opened there.

Owns two files in the user's configuration folder, both 0600: ``project.json`` (URL and anon key)
and ``session.json``. The environment comes first: ``GRAPE_URL``, ``GRAPE_KEY``, and ``GRAPE_TOKEN``
in place of a session, for CI. A session is renewed before its token expires, under a lock: a
refresh token is good once, and two commands at once would end the session for both.
"""

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

import anyio
import orjson

from tendril_rt import parsing
from tendril_rt.control import auth
from tendril_rt.control.owner import Owner, owner
from tendril_rt.errors import ConfigError, TendrilError, Unauthorized
from tendril_rt.runner import flock

T = TypeVar("T")

_MARGIN_S = 60.0  # renewed so long before it expires, or after half of its life
_LOCK_S = 30.0  # for the other command that renews
_RENEW_S = 20.0


@dataclass(frozen=True, slots=True)
class Project:
    """Where the control plane is. *api_key* is the anon (publishable) one."""

    url: str
    api_key: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session as it is kept.

    :ivar renew_at: Unix time from which on the access token is not used any more
    """

    url: str
    email: str
    user_id: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    renew_at: float


class Account:
    """Project and session of one user of this machine.

    :param environ: ``GRAPE_…``, ``XDG_CONFIG_HOME``, ``HOME``
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/"), ".config")
        self.folder = Path(home, "grape")

    @property
    def has_fixed_token(self) -> bool:
        """Tell whether ``GRAPE_TOKEN`` stands in for a session."""
        return bool(self._environ.get("GRAPE_TOKEN"))

    def project(self, url: str | None = None, key: str | None = None) -> Project:
        """Return the project: what is given, else of the environment, else remembered.

        :raises ConfigError: something is missing, or is no URL or key
        """
        kept = self._read("project.json", Project)
        url = url or self._environ.get("GRAPE_URL") or (kept.url if kept else "")
        key = key or self._environ.get("GRAPE_KEY") or (kept.api_key if kept else "")
        problems: list[str] = []
        url = _checked("GRAPE_URL", "base URL of the Supabase project", parsing.url, url, problems)
        key = _checked(
            "GRAPE_KEY", "the project's anon (publishable) API key", parsing.secret, key, problems
        )
        if problems:
            raise ConfigError(*problems, "grape login --url URL --key KEY remembers both")
        return Project(url, key)

    def session(self) -> SignedIn | None:
        """Return the kept session with the present project; None: not signed in there."""
        kept = self._read("session.json", SignedIn)
        return kept if kept is not None and kept.url == self.project().url else None

    async def sign_in(self, project: Project, email: str, password: str) -> SignedIn:
        """Open a session and keep it, and the project with it. Raises as :func:`auth.sign_in`."""
        opened = await auth.sign_in(project.url, project.api_key, email, password)
        self._write("project.json", project)
        return self._keep(project, opened)

    async def sign_out(self) -> SignedIn | None:
        """Forget the session, then end it; None: there was none. Raises as :func:`auth.sign_out`.

        A session that has ended already is no error.
        """
        session, project = self.session(), self.project()
        (self.folder / "session.json").unlink(missing_ok=True)
        if session is not None:
            try:
                await auth.sign_out(project.url, project.api_key, session.access_token)
            except Unauthorized:
                return session  # its token has expired, or somebody ended it: gone either way
        return session

    async def token(self) -> str:
        """Return an access token that is good for a while.

        Cancellation: safe; a renewal that has begun is finished first, within 20 s.

        :raises Unauthorized: not signed in, or the session has ended
        :raises Unavailable: it must be renewed, and Auth does not answer
        :raises ConfigError: ``GRAPE_TOKEN`` cannot stand in a header
        """
        if fixed := self._environ.get("GRAPE_TOKEN"):
            problems: list[str] = []
            token = _checked("GRAPE_TOKEN", "a user's JWT", parsing.secret, fixed, problems)
            if problems:
                raise ConfigError(*problems)
            return token
        session = self._signed_in()
        return session.access_token if _is_fresh(session) else await self._renewed()

    @asynccontextmanager
    async def owner(self) -> AsyncIterator[Owner]:
        """Open a session with the control plane as this user; nothing is sent before a call.

        :raises ConfigError: the project is not known
        """
        project = self.project()
        async with owner(project.url, project.api_key, self.token) as user:
            yield user

    async def _renewed(self) -> str:
        lock = None
        with anyio.move_on_after(_LOCK_S):
            lock = await flock.wait_for(self.folder / "lock")
        if lock is None:
            raise TendrilError(f"another grape holds {self.folder / 'lock'} for too long: end it")
        try:
            session = self._signed_in()
            if _is_fresh(session):  # another grape has renewed it while we waited
                return session.access_token
            return (await self._renew(session)).access_token
        finally:
            os.close(lock)

    async def _renew(self, session: SignedIn) -> SignedIn:
        project = self.project()
        try:
            with anyio.fail_after(_RENEW_S, shield=True):  # else the token is used up for nothing
                fresh = await auth.renew(project.url, project.api_key, session.refresh_token)
                return self._keep(project, fresh)
        except Unauthorized as exc:
            raise Unauthorized(f"your session has ended ({exc}): grape login") from exc

    def _signed_in(self) -> SignedIn:
        session = self.session()
        if session is None:
            raise Unauthorized(f"you are not signed in to {self.project().url}: grape login")
        return session

    def _keep(self, project: Project, opened: auth.Session) -> SignedIn:
        margin_s = min(_MARGIN_S, opened.life_s / 2)
        session = SignedIn(
            url=project.url,
            email=opened.email,
            user_id=opened.user_id,
            access_token=opened.access_token,
            refresh_token=opened.refresh_token,
            renew_at=time.time() + opened.life_s - margin_s,
        )
        self._write("session.json", session)
        return session

    def _read(self, name: str, kind: type[T]) -> T | None:
        path = self.folder / name
        try:
            return kind(**orjson.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError) as exc:
            raise ConfigError(
                f"{path} cannot be read ({exc}): remove it and sign in again"
            ) from exc

    def _write(self, name: str, value: Project | SignedIn) -> None:
        """Replace the file at once, readable by its user alone from its first byte on."""
        fresh = self.folder / f".{name}.{os.getpid()}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            with os.fdopen(
                os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
            ) as file:
                file.write(orjson.dumps(asdict(value)))
                os.fsync(file.fileno())
            fresh.replace(self.folder / name)
        except OSError as exc:
            raise ConfigError(f"{self.folder / name} cannot be written: {exc.strerror}") from exc


def _is_fresh(session: SignedIn) -> bool:
    return time.time() < session.renew_at


def _checked(
    name: str, meaning: str, parse: Callable[[str], str], value: str, problems: list[str]
) -> str:
    """Return what *value* means; else note what is wrong with it, under its variable's name."""
    try:
        if value.strip():
            return parse(value.strip())
        problems.append(f"{name} is not set: {meaning}")
    except ValueError as exc:
        problems.append(f"{name} {exc}")
    return ""
