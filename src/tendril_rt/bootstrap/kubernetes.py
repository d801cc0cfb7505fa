"""The few calls to a Kubernetes API server that a bootstrap makes itself; Helm makes the others.

Over the same HTTP client as everything else. An answer of 5xx, or none, is tried again for a
while: a new cluster's server is not always there at once. No message quotes what was sent.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from tendril_rt.aio.backoff import Backoff
from tendril_rt.bootstrap.kubeconfig import Access
from tendril_rt.errors import KubernetesError, KubernetesUnavailable

_TIMEOUT_S = 20.0
_PATIENCE_S = 60.0
_MAX_MESSAGE = 400

Object = dict[str, Any]


class Kubernetes:
    """One API server, as one user; see :func:`connected`.

    :param patience_s: how long to try again while it does not answer
    """

    def __init__(self, session: httpx.AsyncClient, access: Access, patience_s: float) -> None:
        self._session = session
        self._access = access
        self._patience_s = patience_s

    async def version(self) -> str:
        """Return for example ``v1.33.0``; the first call to make."""
        return str((await self._ask("GET", "/version"))["gitVersion"])

    async def find(self, path: str) -> Object | None:
        """Return the object, or the list of objects, at *path*; None: there is none."""
        response = await self._send("GET", path)
        if response.status_code == 404:
            return None
        found: Object = _checked(response, f"GET {path}").json()
        return found

    async def items(self, path: str, **query: str) -> list[Object]:
        """Return the objects of the list at *path*."""
        answer = await self._ask("GET", path, query=query)
        return list(answer.get("items") or [])

    async def text(self, path: str, **query: str) -> str:
        """Return what *path* answers as text, such as a log."""
        return _checked(await self._send("GET", path, query=query), f"GET {path}").text

    async def create(self, path: str, obj: Object) -> Object:
        """Make *obj* in the list at *path*."""
        return await self._ask("POST", path, obj)

    async def replace(self, path: str, obj: Object) -> Object:
        """Put *obj*, as it was read and then changed, at *path*."""
        return await self._ask("PUT", path, obj)

    async def remove(self, path: str) -> None:
        """Delete what is at *path*; nothing there is fine."""
        response = await self._send("DELETE", path)
        if response.status_code != 404:
            _checked(response, f"DELETE {path}")

    async def _ask(
        self, method: str, path: str, body: Object | None = None, query: Mapping[str, str] = {}
    ) -> Object:
        answer: Object = _checked(
            await self._send(method, path, body, query), f"{method} {path}"
        ).json()
        return answer

    async def _send(
        self, method: str, path: str, body: Object | None = None, query: Mapping[str, str] = {}
    ) -> httpx.Response:
        """:raises KubernetesUnavailable: it did not answer in time, again and again"""
        backoff, why = Backoff(0.5, 5.0), "no answer"
        with anyio.move_on_after(self._patience_s):
            while True:
                token = await self._access.token()
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                try:
                    response = await self._session.request(
                        method, path, json=body, params=dict(query), headers=headers
                    )
                except httpx.TransportError as exc:
                    why = f"{type(exc).__name__}: {exc}"
                else:
                    if response.status_code < 500:
                        return response
                    why = _message(response)
                await anyio.sleep(backoff.next_s())
        raise KubernetesUnavailable(
            f"the Kubernetes API at {self._access.server} does not answer {method} {path} ({why})"
        )


@asynccontextmanager
async def connected(
    access: Access, *, patience_s: float = _PATIENCE_S
) -> AsyncIterator[Kubernetes]:
    """Open a session; nothing is sent before the first call.

    Every call raises :class:`KubernetesUnavailable` or, refused, :class:`KubernetesError`.
    """
    async with httpx.AsyncClient(
        base_url=access.server, verify=access.tls, timeout=_TIMEOUT_S
    ) as session:
        yield Kubernetes(session, access, patience_s)


def _checked(response: httpx.Response, what: str) -> httpx.Response:
    """:raises KubernetesError: it refused, with the cure as far as the status tells it"""
    if response.status_code < 300:
        return response
    cures = {
        401: "it does not know this identity: the cluster's creator and cluster_admin_arns are let "
        "in, nobody else (docs/bootstrap.md)",
        403: "it knows this identity, which may not do that: let an administrator of the cluster "
        "do it, or give it the rights that docs/bootstrap.md lists",
    }
    cure = cures.get(response.status_code, "look at what the cluster says of it")
    raise KubernetesError(
        f"the Kubernetes API refused {what} ({response.status_code}): {_message(response)}\n{cure}"
    )


def _message(response: httpx.Response) -> str:
    try:
        said = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        said = response.reason_phrase
    return f"{response.status_code}: {said[:_MAX_MESSAGE]}"
