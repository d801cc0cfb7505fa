"""Signed provisions: an agent with trusted keys runs only what a holder of one of them submitted.

The control plane carries a provision and could change it, or make one up. A signature covers what
decides about resources: the cluster, the operation, the stack and the snapshot, and the time until
which it holds. The snapshot alone would not do: whoever holds the database could turn a signed
APPLY into a DESTROY, or point it at another stack's state. Format and limits: docs/signing.md.

Pure but for reading key files; ``cryptography`` is imported only where a key is used.
"""

import base64
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import rfc8785

from tendril_rt.control import snapshot
from tendril_rt.errors import ConfigError, SignatureError, SnapshotError
from tendril_rt.model import ClusterId, Operation, Provision

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

#: Signed before the envelope, so that no signature of another protocol can pass for one of ours.
_CONTEXT = b"tendril provision v1\n"
_SIGNATURE = re.compile(r"v1\.([0-9]{1,15})\.([A-Za-z0-9_-]{86})")  # 64 bytes in base64url


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a signature covers.

    :ivar snapshot_json: ``config_snapshot`` as JSON text; its RFC 8785 form is signed
    :ivar not_after: Unix seconds until which the signature holds; 0 for ever
    """

    cluster_id: ClusterId
    operation: Operation
    stack_key: str
    snapshot_json: str
    not_after: int

    def to_sign(self) -> bytes:
        """Return the bytes that are signed.

        :raises SnapshotError: the snapshot has no RFC 8785 form
        """
        snapshot.snapshot_hash(self.snapshot_json)  # names the number that RFC 8785 cannot express
        return _CONTEXT + rfc8785.dumps(
            {
                "cluster_id": self.cluster_id,
                "config_snapshot": json.loads(self.snapshot_json),
                "not_after": self.not_after,
                "operation": self.operation.value,
                "stack_key": self.stack_key,
            }
        )


class Signer:
    """Signs what one key's holder submits; see :func:`read_signer`."""

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    @property
    def public_key(self) -> str:
        """What goes into an agent's ``TENDRIL_TRUSTED_KEYS``."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, envelope: Envelope) -> str:
        """Return the signature as it stands in ``provisions.signature``."""
        signature = base64.urlsafe_b64encode(self._key.sign(envelope.to_sign())).rstrip(b"=")
        return f"v1.{envelope.not_after}.{signature.decode()}"


def verify(
    provision: Provision,
    trusted_keys: Sequence[bytes],
    *,
    now: Callable[[], float] = time.time,
) -> None:
    """Check that a holder of one of *trusted_keys* submitted *provision* as it is.

    :param now: Unix seconds by this host's clock

    :raises SignatureError: not signed, changed, expired, or signed by another key
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if provision.signature is None:
        raise SignatureError(
            "the provision is not signed and this agent runs signed ones only "
            "(TENDRIL_TRUSTED_KEYS): submit it with 'grape deploy --sign-with KEY'"
        )
    not_after, signature = _read(provision.signature)
    try:
        signed = Envelope(
            provision.cluster_id,
            provision.operation,
            provision.stack_key,
            provision.snapshot_json,
            not_after,
        ).to_sign()
    except SnapshotError as exc:
        raise SignatureError(f"the provision's signature cannot be checked: {exc}") from exc
    for key in trusted_keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
        except InvalidSignature:
            continue
        if not_after and now() > not_after:
            raise SignatureError(
                f"the provision's signature held until {_at(not_after)}, which is over by this "
                "host's clock: sign and submit it again"
            )
        return
    raise SignatureError(
        f"the provision's signature is by none of the {len(trusted_keys)} keys in "
        "TENDRIL_TRUSTED_KEYS, or the provision was changed after it was signed"
    )


def stack_key_of(snapshot_json: str, cluster_id: ClusterId, configuration_id: str | None) -> str:
    """Return the key that the database gives the stack (prepare_provision)."""
    if configuration_id is not None:
        return configuration_id
    source = json.loads(snapshot_json)["template_source"]
    return "/".join(
        part for part in (cluster_id, source["repo"], source.get("path")) if part is not None
    )


def make_key(path: Path) -> Signer:
    """Make a key in the new file *path*, mode 0600.

    :raises ConfigError: the file exists already or cannot be written
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(pem)
    except OSError as exc:
        raise ConfigError(f"cannot make the key file {path}: {exc.strerror or exc}") from exc
    return Signer(key)


def read_signer(path: Path) -> Signer:
    """Read the key in *path* (PEM, as :func:`make_key` or ``openssl genpkey`` writes it).

    :raises ConfigError: it cannot be read, others can read it too, or it is no Ed25519 key
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise ConfigError(f"the key file {path} is open to others: chmod 600 it")
            key = load_pem_private_key(file.read(), password=None)
    except OSError as exc:
        raise ConfigError(f"cannot read the key file {path}: {exc.strerror or exc}") from exc
    except (TypeError, ValueError) as exc:  # TypeError: it needs a password
        raise ConfigError(f"the key file {path} holds no unencrypted PEM key") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"the key in {path} is no Ed25519 key: 'grape keygen FILE' makes one")
    return Signer(key)


def _read(signature: str) -> tuple[int, bytes]:
    """Return until when it holds, and the signature's bytes."""
    match = _SIGNATURE.fullmatch(signature)
    if match is None:
        raise SignatureError(
            f"the provision's signature ({signature[:40]!r}) is not of the form "
            "v1.<time>.<base64url>: submit it with 'grape deploy --sign-with KEY'"
        )
    return int(match[1]), base64.urlsafe_b64decode(match[2] + "==")


def _at(unix_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(unix_s))
