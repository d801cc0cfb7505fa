"""A network whose only way out is a proxy, and hosts behind it with certificates of its own.

The hosts' names resolve nowhere: the proxy alone knows them, as where no DNS knows the outside.
"""

import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio.abc import AnyByteStream, SocketAttribute, SocketListener, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener

_LONGEST_REQUEST = 16384
_BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


@dataclass
class Walled:
    """:ivar proxy: the proxy's URL, without a login
    :ivar authority: the certificate that signs for every host, in PEM
    :ivar passed: hosts that somebody went through the proxy to, in order
    """

    proxy: str
    authority: Path
    passed: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Return what docs/air-gapped.md says that an agent needs here."""
        ways = ("HTTPS_PROXY", "https_proxy")
        trust = ("SSL_CERT_FILE", "GIT_SSL_CAINFO")
        return {
            **dict.fromkeys(ways, self.proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), ""),
            **dict.fromkeys(trust, str(self.authority)),
        }


@asynccontextmanager
async def walled_network(folder: Path, hosts: Mapping[str, int]) -> AsyncIterator[Walled]:
    """Put TLS in front of plain HTTP servers, and a proxy in front of that.

    :param hosts: name → port on loopback of what speaks HTTP without TLS
    """
    authority = _authority(folder)
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        ports: dict[str, int] = {}
        for name, target in hosts.items():
            plain = await _listener(stack)
            ports[name] = _port(plain)
            secured = TLSListener(plain, _context(folder, name), standard_compatible=False)
            tasks.start_soon(secured.serve, _to(target))
        listener = await _listener(stack)
        walled = Walled(f"http://127.0.0.1:{_port(listener)}", authority)
        tasks.start_soon(listener.serve, _connecting(walled, ports))
        yield walled
        tasks.cancel_scope.cancel()


def _connecting(
    walled: Walled, ports: Mapping[str, int]
) -> Callable[[SocketStream], Awaitable[None]]:
    async def serve(client: SocketStream) -> None:
        """Answer one CONNECT (RFC 9110, section 9.3.6)."""
        async with client:
            try:
                reader = BufferedByteReceiveStream(client)
                head = await reader.receive_until(b"\r\n\r\n", _LONGEST_REQUEST)
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                host = target.rpartition(":")[0]
                walled.passed.append(host)
                if method != "CONNECT" or host not in ports:
                    await client.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                    return
                async with await anyio.connect_tcp("127.0.0.1", ports[host]) as server:
                    await client.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    await _both_ways(client, server)
            except (*_BROKEN, anyio.IncompleteRead):
                return

    return serve


def _to(port: int) -> Callable[[AnyByteStream], Awaitable[None]]:
    async def serve(client: AnyByteStream) -> None:
        async with client:
            try:
                async with await anyio.connect_tcp("127.0.0.1", port) as server:
                    await _both_ways(client, server)
            except _BROKEN:
                return

    return serve


async def _both_ways(one: AnyByteStream, other: AnyByteStream) -> None:
    async with anyio.create_task_group() as tasks:

        async def pump(source: AnyByteStream, target: AnyByteStream) -> None:
            try:
                async for data in source:
                    await target.send(data)
            except _BROKEN:
                pass  # whoever hung up, the connection is over
            tasks.cancel_scope.cancel()

        tasks.start_soon(pump, one, other)
        tasks.start_soon(pump, other, one)


async def _listener(stack: AsyncExitStack) -> SocketListener:
    multi = await anyio.create_tcp_listener(local_host="127.0.0.1")
    (listener,) = multi.listeners
    assert isinstance(listener, SocketListener)
    return await stack.enter_async_context(listener)


def _port(listener: SocketListener) -> int:
    return int(listener.extra(SocketAttribute.local_port))  # noqa: S610 - no Django


_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")


def _authority(folder: Path) -> Path:
    certificate = folder / "authority.pem"
    names = ("-subj", "/CN=an authority of our own", "-addext", "keyUsage=critical,keyCertSign")
    _openssl(
        "req", "-x509", *_CURVE, *names, "-keyout", folder / "authority.key", "-out", certificate
    )
    return certificate


def _context(folder: Path, name: str) -> ssl.SSLContext:
    """Return a server's context with a certificate for *name* that the authority signed."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    signer = ("-CA", folder / "authority.pem", "-CAkey", folder / "authority.key")
    names = ("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}")
    use = ("-addext", "basicConstraints=critical,CA:FALSE")
    _openssl("req", "-x509", *signer, *_CURVE, *names, *use, "-keyout", key, "-out", certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def _openssl(*arguments: str | Path) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
