"""Signatures over provisions: what they cover, and what is refused."""

import base64
import dataclasses
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tendril_rt.agent.equipment import _SnapshotReader
from tendril_rt.agent.record import AttemptRecord, load_all
from tendril_rt.control.signing import Envelope, Signer, make_key, read_signer, stack_key_of, verify
from tendril_rt.errors import ConfigError, SignatureError, SnapshotError
from tendril_rt.model import AgentId, ClusterId, Lease, Operation, Provision, ProvisionId
from tendril_rt.settings import RunnerSettings

CLUSTER = ClusterId("c1000000-0000-4000-8000-000000000001")
SNAPSHOT = (
    '{"template_source": {"repo": "https://h/r", "version": "v1"}, "terraform_vars": {"n": 1.10}}'
)
#: RFC 8032, section 7.1, test 1.
RFC_8032_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")


@pytest.fixture
def signer() -> Signer:
    return Signer(ed25519.Ed25519PrivateKey.from_private_bytes(RFC_8032_SEED))


def key_of(signer: Signer) -> bytes:
    return base64.b64decode(signer.public_key)


def signed(signer: Signer, *, not_after: int = 0, snapshot: str = SNAPSHOT) -> Provision:
    envelope = Envelope(CLUSTER, Operation.APPLY, "stack", snapshot, not_after)
    return Provision(
        lease=Lease(ProvisionId("p"), 1, AgentId("a")),
        cluster_id=CLUSTER,
        operation=Operation.APPLY,
        stack_key="stack",
        snapshot_json=snapshot,
        configuration_hash=None,
        signature=signer.sign(envelope),
    )


def test_what_was_signed_is_accepted(signer: Signer) -> None:
    verify(signed(signer), [bytes(32), key_of(signer)])


def test_the_signed_bytes_are_those_of_the_documentation(signer: Signer) -> None:
    envelope = Envelope(CLUSTER, Operation.PLAN, "stack", '{"b": 1.0, "a": "é"}', 7)
    assert envelope.to_sign() == (
        b'tendril provision v1\n{"cluster_id":"c1000000-0000-4000-8000-000000000001",'
        b'"config_snapshot":{"a":"\xc3\xa9","b":1},"not_after":7,"operation":"PLAN",'
        b'"stack_key":"stack"}'
    )


def test_another_spelling_of_the_same_snapshot_is_accepted(signer: Signer) -> None:
    reordered = (
        '{"terraform_vars": {"n": 1.1}, "template_source":{"version":"v1","repo":"https://h/r"}}'
    )
    verify(dataclasses.replace(signed(signer), snapshot_json=reordered), [key_of(signer)])


@pytest.mark.parametrize(
    "change",
    [
        {"operation": Operation.DESTROY},
        {"cluster_id": ClusterId("c2000000-0000-4000-8000-000000000002")},
        {"stack_key": "another"},
        {"snapshot_json": SNAPSHOT.replace("v1", "v2")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_was_changed_is_refused(signer: Signer, change: dict[str, str]) -> None:
    changed = dataclasses.replace(signed(signer), **change)  # type: ignore[arg-type]
    with pytest.raises(SignatureError, match="changed after it was signed"):
        verify(changed, [key_of(signer)])


def test_a_longer_life_cannot_be_written_into_a_signature(signer: Signer) -> None:
    provision = signed(signer, not_after=1000)
    assert provision.signature is not None
    longer = provision.signature.replace("v1.1000.", "v1.2000.")
    with pytest.raises(SignatureError, match="changed after it was signed"):
        verify(dataclasses.replace(provision, signature=longer), [key_of(signer)], now=lambda: 1)


def test_a_signature_holds_until_its_time(signer: Signer) -> None:
    provision = signed(signer, not_after=1000)
    verify(provision, [key_of(signer)], now=lambda: 1000)
    with pytest.raises(SignatureError, match=r"held until 1970-01-01 00:16:40Z"):
        verify(provision, [key_of(signer)], now=lambda: 1000.5)


def test_an_attempt_that_is_taken_up_again_is_judged_by_when_it_began(
    signer: Signer, tmp_path: Path
) -> None:
    """The signature may run out while its Terraform runs, and the agent restarts."""
    AttemptRecord(signed(signer, not_after=1000), started_at=999.0).save(tmp_path)
    (record,) = load_all(tmp_path)
    read = _SnapshotReader(RunnerSettings(trusted_keys=(key_of(signer),)))

    assert read(record.provision, at=record.started_at).template.version == "v1"
    with pytest.raises(SignatureError, match="is over by this host's clock"):
        read(record.provision, at=1001.0)


def test_a_key_that_is_not_trusted_is_refused(signer: Signer) -> None:
    other = Signer(ed25519.Ed25519PrivateKey.generate())
    with pytest.raises(SignatureError, match="by none of the 1 keys"):
        verify(signed(other), [key_of(signer)])


@pytest.mark.parametrize(
    "signature",
    [
        *(None, "", "v1", "v1.0.", "v1.0.AAAA", "v1.0." + "!" * 86, "v1.0." + "A" * 86 + ".more"),
        *("v2.0." + "A" * 86, "v1.-1." + "A" * 86, "v1.x." + "A" * 86, "v1.²." + "A" * 86),
    ],
)
def test_a_malformed_signature_is_refused_with_the_cure(
    signer: Signer, signature: str | None
) -> None:
    with pytest.raises(SignatureError, match="--sign-with"):
        verify(dataclasses.replace(signed(signer), signature=signature), [key_of(signer)])


def test_a_number_that_has_no_canonical_form_is_named(signer: Signer) -> None:
    huge = SNAPSHOT.replace("1.10", "9007199254740993")
    with pytest.raises(SnapshotError, match=r"config_snapshot\.terraform_vars\.n"):
        signed(signer, snapshot=huge)
    with pytest.raises(SignatureError, match=r"config_snapshot\.terraform_vars\.n"):
        verify(dataclasses.replace(signed(signer), snapshot_json=huge), [key_of(signer)])


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("", "c/https://h/r"),
        (', "path": ""', "c/https://h/r/"),
        (', "path": "p"', "c/https://h/r/p"),
    ],
)
def test_stacks_are_named_as_the_database_names_them(path: str, key: str) -> None:
    snapshot = '{"template_source": {"repo": "https://h/r"' + path + "}}"
    assert stack_key_of(snapshot, ClusterId("c"), None) == key
    assert stack_key_of(snapshot, ClusterId("c"), "configuration") == "configuration"


def test_a_key_file_is_private_and_read_again(tmp_path: Path) -> None:
    made = make_key(tmp_path / "key")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert read_signer(tmp_path / "key").public_key == made.public_key
    with pytest.raises(ConfigError, match="File exists"):
        make_key(tmp_path / "key")


def test_a_key_file_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    path = tmp_path / "key"
    with pytest.raises(ConfigError, match="No such file"):
        read_signer(path)
    make_key(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_signer(path)
    path.chmod(0o600)
    for content in (b"", b"no key", _pem(BestAvailableEncryption(b"password"))):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="no unencrypted PEM key"):
            read_signer(path)
    other = rsa.generate_private_key(65537, 2048)
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        read_signer(path)


def _pem(encryption: BestAvailableEncryption) -> bytes:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
