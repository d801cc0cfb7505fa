"""A real sshd on a loopback port, for one user and one key, with nothing of the machine's own."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_PRIVILEGES = Path("/run/sshd")  # an sshd of root insists on it; its own service makes it
_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
AuthenticationMethods publickey
UsePAM no
PidFile none
# Folders of tests are below /tmp, where others may write.
StrictModes no
"""


@dataclass(frozen=True)
class SshHost:
    """A running sshd, and how a client reaches it.

    :ivar key_file: the private key that opens it
    :ivar known_hosts_file: says which key is the host's
    """

    folder: Path
    port: int

    @property
    def key_file(self) -> Path:
        return self.folder / "user key"

    @property
    def known_hosts_file(self) -> Path:
        return self.folder / "known hosts"

    def url_of(self, repository: Path) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{repository}"

    def authorize(self, key: Path) -> None:
        """Let *key* in, too."""
        with (self.folder / "authorized_keys").open("a") as file:
            file.write(key.with_suffix(".pub").read_text())

    def know_as(self, public_key: Path) -> None:
        """Let clients take *public_key* for the host's."""
        kind, key, *_ = public_key.read_text().split()
        self.known_hosts_file.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")


def make_key(path: Path, passphrase: str = "") -> Path:
    """Make a pair of keys; return the private one."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)],
        check=True,
        capture_output=True,
    )
    return path


@contextmanager
def ssh_host(folder: Path) -> Iterator[SshHost]:
    """Run an sshd until the block ends; skips the test where there is none."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("sshd is not installed (Debian: openssh-server)")
    if os.geteuid() == 0:
        _PRIVILEGES.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir()
    host = SshHost(folder, _free_port())
    make_key(folder / "host_key")
    host.authorize(make_key(host.key_file))
    host.know_as(folder / "host_key.pub")
    config = folder / "sshd_config"
    config.write_text(_CONFIG.format(port=host.port, folder=folder))
    process = subprocess.Popen(
        [program, "-D", "-e", "-f", str(config)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr:
        first = process.stderr.readline()
        assert f"listening on 127.0.0.1 port {host.port}" in first, first + process.stderr.read()
        yield host
        process.terminate()
        process.wait(20)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
