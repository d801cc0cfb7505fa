"""One HTTP session to PostgREST: calls functions, reads tables, translates every failure.

The only module that imports ``postgrest``. Owns the connection pool. Never retries: whoever calls
knows whether the call may be repeated. Failures are told apart by HTTP status and SQLSTATE in one
place (:func:`_error_of`), before the library can guess at the body.
"""

import functools
import reprlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import httpx
import orjson
from postgrest import AsyncPostgrestClient
from yarl import URL

from tendril_rt.errors import ControlPlaneError, LeaseLost, Rejected, Unauthorized, Unavailable

_KEEPALIVE_S = 60.0  # httpx's own 5 s equals our poll interval: each poll would reconnect
_CONNECT_TIMEOUT_S = 5.0
_MAX_MESSAGE = 300
_SHORT = reprlib.Repr()

TokenSource = Callable[[], Awaitable[str]]

#: Most that an agent is answered: a configuration of 1 MiB, whatever its escapes.
_MAX_ANSWER_BYTES = 16 * 1024 * 1024


class Rest:
    """A session with one set of credentials; see :func:`connect`."""

    def __init__(
        self, session: httpx.AsyncClient, url: str, headers: Mapping[str, str], timeout_s: float
    ) -> None:
        self._session = session
        self._timeout_s = timeout_s  # for the whole answer; httpx's own are for each piece of it
        self._url = URL(f"{url}/rest/v1")
        self._client = AsyncPostgrestClient(
            str(self._url), headers=dict(headers), http_client=session, retry_enabled=False
        )

    async def call(
        self, function: str, arguments: Mapping[str, object], *, select: Sequence[str] = ()
    ) -> object:
        """Call a function by its named *arguments*; return the decoded answer.

        :param select: columns of a set-returning function; PostgREST casts such as ``a::text``
        :raises Unavailable: no answer, a 5xx, or an answer that is not JSON: may be tried again
        :raises Rejected: refused, with the reason; :class:`Unauthorized` and :class:`LeaseLost` too

        Cancellation: safe; the function may or may not have run.
        """
        query = {"select": ",".join(select)} if select else None
        try:
            with anyio.fail_after(self._timeout_s):
                response = await self._session.post(
                    str(self._url / "rpc" / function),
                    params=query,
                    content=orjson.dumps(arguments),
                    headers={**self._client.headers, "content-type": "application/json"},
                )
        except (httpx.RequestError, TimeoutError) as exc:
            raise _unreachable(self._url, exc) from exc
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as exc:
            raise _not_json(self._url, exc) from exc

    async def rows(
        self,
        table: str,
        columns: Sequence[str],
        *,
        equal: Mapping[str, str],
        above: Mapping[str, int] | None = None,
        order: Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> list[dict[str, object]]:
        """Read rows of *table* that the caller may see.

        :param equal: column to value, all must match
        :param above: column to number, greater than
        :param order: columns; one with ``-`` before it is descending
        :param limit: at most so many rows
        :raises Unavailable: see :meth:`call`
        :raises Rejected: see :meth:`call`
        """
        query = self._client.from_(table).select(*columns)
        for name, value in equal.items():
            query = query.eq(name, value)
        for name, number in (above or {}).items():
            query = query.gt(name, str(number))
        for name in order:
            query = query.order(name.removeprefix("-"), desc=name.startswith("-"))
        if offset:
            query = query.offset(offset)
        if limit is not None:
            query = query.limit(limit)
        try:
            with anyio.fail_after(self._timeout_s):
                answer = await query.execute()
        except (httpx.RequestError, TimeoutError) as exc:
            raise _unreachable(self._url, exc) from exc
        if not isinstance(answer.data, list):  # postgrest hands on what it cannot decode
            raise _not_json(self._url, "not a list of rows")
        return [row for row in answer.data if isinstance(row, dict)]


@asynccontextmanager
async def connect(
    url: str,
    api_key: str,
    *,
    token: str | TokenSource,
    headers: Mapping[str, str],
    timeout_s: float,
    max_answer_bytes: int = _MAX_ANSWER_BYTES,
) -> AsyncIterator[Rest]:
    """Open a session; nothing is sent before the first call.

    :param api_key: the project's key, which names the project
    :param token: the JWT that says who asks, or what gives the present one before each request;
        for anonymous callers the key itself
    :param timeout_s: longest wait for one answer, in seconds
    :param max_answer_bytes: a longer one is Unavailable, and not read to its end
    """
    all_headers = {"apikey": api_key, **headers}
    if isinstance(token, str):
        all_headers["Authorization"] = f"Bearer {token}"
    all_headers["Accept-Encoding"] = "identity"  # so that no small answer unpacks to a huge one
    async with httpx.AsyncClient(
        auth=None if isinstance(token, str) else _Bearer(token),
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_TIMEOUT_S)),
        limits=httpx.Limits(max_connections=20, keepalive_expiry=_KEEPALIVE_S),
        event_hooks={"response": [functools.partial(_raise_unless_ours, max_answer_bytes)]},
        mounts={"all://127.0.0.1": None, "all://localhost": None},  # never through a proxy
    ) as session:
        yield Rest(session, url, all_headers, timeout_s)


class _Bearer(httpx.Auth):
    """Asks for the token before each request, so that a session may outlive many tokens."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        request.headers["Authorization"] = f"Bearer {await self._source()}"
        yield request


class _Bounded(httpx.AsyncByteStream):
    """An answer's body, up to *max_bytes*: beyond, nobody knows when it ends."""

    def __init__(self, body: httpx.AsyncByteStream, url: httpx.URL, max_bytes: int) -> None:
        self._body = body
        self._url = url
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left_bytes = self._max_bytes
        async for piece in self._body:
            left_bytes -= len(piece)
            if left_bytes < 0:
                raise _not_json(self._url, f"more than {self._max_bytes} bytes")
            yield piece

    async def aclose(self) -> None:
        await self._body.aclose()


async def _raise_unless_ours(max_bytes: int, response: httpx.Response) -> None:
    """Stop every answer that is not a success in JSON, before anyone takes it for one."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _not_json(response.request.url, "packed, which was not asked for")
    assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - of an AsyncClient
    response.stream = _Bounded(response.stream, response.request.url, max_bytes)
    kind = response.headers.get("content-type", "")
    if response.is_success:
        if response.status_code == httpx.codes.NO_CONTENT:
            return
        if kind.startswith("application/json"):
            if not await response.aread():  # postgrest would make an empty table of it
                raise _not_json(response.request.url, "an empty body")
            return
        raise Unavailable(
            f"{response.request.url.host} answered {response.status_code} with {kind or 'no type'} "
            "instead of JSON: is SUPABASE_URL the control plane, or does a proxy stand in between?"
        )
    try:
        body = await response.aread()
    except httpx.RequestError as exc:
        raise _unreachable(response.request.url, exc) from exc
    raise _error_of(response.status_code, body)


def _error_of(status: int, body: bytes) -> ControlPlaneError:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        fields = None
    # A proxy or a login page in between. Too large (413) is true whoever says it.
    if not isinstance(fields, dict) and status < 500 and status != 413:
        text = body.decode(errors="replace")[:_MAX_MESSAGE].strip()
        return Unavailable(
            f"something that is not the control plane answered {status}: {text or 'nothing'}. Is "
            "SUPABASE_URL the control plane, or does a proxy stand in between?"
        )
    if not isinstance(fields, dict):
        fields = {"message": body.decode(errors="replace")[:_MAX_MESSAGE].strip()}
    code = _shown(fields.get("code") or "")
    text = " · ".join(
        _shown(fields[name]) for name in ("message", "details", "hint") if fields.get(name)
    )
    said = f"the control plane answered {status}{f' ({code})' if code else ''}: {text or 'nothing'}"
    if status >= 500 or status in (408, 425, 429):
        return Unavailable(said)
    if status == 409 and code == "PT409":
        return LeaseLost(said)
    if code == "PT401":
        return Unauthorized(
            f"{said}. The cluster id and the token do not belong together, or the token was "
            "revoked: check TENDRIL_CLUSTER_ID and TENDRIL_API_TOKEN, or rotate the token"
        )
    if code == "PGRST303":
        return Unauthorized(
            f"{said}. The token is no longer good: sign in again for a new GRAPE_TOKEN, or take "
            "the project's present API key"
        )
    if status in (401, 403):
        return Unauthorized(
            f"{said}. Check SUPABASE_KEY: it must be the anon key of the project at SUPABASE_URL"
        )
    if code == "PGRST202":
        return Rejected(
            f"{said}. The control plane's schema is missing or older: apply sql/migrations"
        )
    return Rejected(said)


def _shown(said: object) -> str:
    """Return the beginning of *said* on one line; str() of deeply nested lists would raise."""
    text = said if isinstance(said, str) else _SHORT.repr(said)
    return " ".join(text[:_MAX_MESSAGE].split())


def _not_json(url: httpx.URL | URL, why: object) -> Unavailable:
    return Unavailable(
        f"{url.host} answered with broken JSON ({why}): is SUPABASE_URL the control plane, or does "
        "a proxy stand in between?"
    )


def _unreachable(url: httpx.URL | URL, exc: httpx.RequestError | TimeoutError) -> Unavailable:
    why = f"{type(exc).__name__} ({exc})" if str(exc) else type(exc).__name__
    return Unavailable(
        f"no answer from {url.host}:{url.port or 443}: {why}. "
        "Check SUPABASE_URL, DNS, the proxy and the firewall (outbound HTTPS)"
    )
