"""Where a built binary begins: one program that answers as ``tendril`` and as ``grape``.

``tendril grape …`` is ``grape …``, and so is the binary under the name ``grape`` (a link). What
PyInstaller leaves in the environment for itself is taken out first, so that no child sees it: its
``LD_LIBRARY_PATH`` would give git, ssh and providers our libraries instead of their own.
"""

import importlib.util
import os
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path

from tendril_rt.cli import itself, unpacked

_LIBRARIES = "LD_LIBRARY_PATH"
_PYINSTALLERS_OWN = "_PYI_"
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")
#: Where distributions keep the certificates that they trust. The binary's OpenSSL knows only the
#: place of the distribution that it was built on.
_TRUST_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",
)
_EMBEDDED = ("demo", "dev")


def main() -> int:
    """Run one command; return the process's exit code."""
    tidy(os.environ)
    folder = itself.unpack_folder()
    if folder is None:
        return _dispatch(sys.argv)
    unpacked.die_with_the_bootloader()
    with unpacked.claim(folder):
        unpacked.sweep(folder.parent)
        return _dispatch(sys.argv)


def tidy(environ: MutableMapping[str, str], stores: Sequence[str] = _TRUST_STORES) -> None:
    """Make *environ* what it was before PyInstaller's bootloader, and name the trust store.

    The dynamic linker has read its variable when the process began; it needs it no more.
    """
    before = environ.pop(f"{_LIBRARIES}_ORIG", "")
    environ.pop(_LIBRARIES, None)
    if before:
        environ[_LIBRARIES] = before
    for name in [name for name in environ if name.startswith(_PYINSTALLERS_OWN)]:
        del environ[name]
    if not any(environ.get(name) for name in _TRUST):
        store = next((path for path in stores if Path(path).exists()), None)
        if store is not None:
            environ["SSL_CERT_FILE"] = store


def _dispatch(argv: Sequence[str]) -> int:
    name, arguments = Path(argv[0]).name, list(argv[1:])
    if name == "grape" or arguments[:1] == ["grape"]:
        from tendril_rt.cli import grape

        return grape.main(arguments if name == "grape" else arguments[1:])
    if arguments[:1] and arguments[0] in _EMBEDDED and not _has_the_embedded_plane():
        print(
            f"tendril {arguments[0]}: this binary holds no embedded control plane. The folder "
            "build (tendril-demo) does, and so does pip install 'tendril-rt[local]'",
            file=sys.stderr,
        )
        return 2
    from tendril_rt.cli import main as tendril

    return tendril.main(arguments)


def _has_the_embedded_plane() -> bool:
    return importlib.util.find_spec("tendril_rt.cli.demo") is not None


if __name__ == "__main__":
    sys.exit(main())
