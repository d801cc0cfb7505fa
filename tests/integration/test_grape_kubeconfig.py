"""Kubeconfigs that are written and read; programs that print tokens are real ones."""

import json
import stat
import subprocess
from pathlib import Path

import anyio
import pytest
import yaml

from tendril_rt.bootstrap import kubeconfig
from tendril_rt.errors import ConfigError

pytestmark = pytest.mark.integration

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "SECRET": "not for others", "GRAPE_URL": "http://x"}


def a_kubeconfig(folder: Path, user: dict[str, object], **cluster: object) -> Path:
    path = folder / "config"
    whole = {
        "clusters": [{"name": "c", "cluster": {"server": "https://k:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(whole))
    return path


def printing(text: str, code: int = 0) -> dict[str, object]:
    script = f"printf %s '{text}'; exit {code}"
    return {"exec": {"command": "sh", "args": ["-c", script], "apiVersion": "v1beta1"}}


def test_a_token_of_each_kind_is_found(tmp_path: Path) -> None:
    (tmp_path / "token.txt").write_text("from-file\n")
    answer = json.dumps({"status": {"token": "from-program"}})
    cases: list[tuple[dict[str, object], str]] = [
        ({"token": "plain"}, "plain"),
        ({"tokenFile": "token.txt"}, "from-file"),
        (printing(answer), "from-program"),
    ]
    for user, token in cases:
        access = kubeconfig.read(a_kubeconfig(tmp_path, user), ENVIRONMENT)
        assert access.server == "https://k:6443"
        assert anyio.run(access.token) == token


@pytest.mark.parametrize(("text", "code"), [("{}", 0), ("nothing", 0), ("", 3)])
def test_a_program_without_a_token_is_named(tmp_path: Path, text: str, code: int) -> None:
    access = kubeconfig.read(a_kubeconfig(tmp_path, printing(text, code)), ENVIRONMENT)
    with pytest.raises(ConfigError, match="the kubeconfig's program sh gives no token"):
        anyio.run(access.token)


def test_the_program_sees_what_it_needs_and_no_more(tmp_path: Path) -> None:
    plugin: dict[str, object] = {
        "command": "sh",
        "args": [
            "-c",
            'printf \'{"status": {"token": "%s|%s|%s"}}\' "$SECRET" "$GRAPE_URL" "$OWN"',
        ],
        "env": [{"name": "OWN", "value": "given"}],
    }
    access = kubeconfig.read(a_kubeconfig(tmp_path, {"exec": plugin}), ENVIRONMENT)
    assert anyio.run(access.token) == "|http://x|given"


@pytest.mark.parametrize(
    ("user", "cluster", "said"),
    [
        ({"auth-provider": {"name": "gcp"}}, {}, "has none of"),
        ({"token": "t"}, {"insecure-skip-tls-verify": True}, "not to look whom we speak to"),
        ({"token": "t"}, {"certificate-authority-data": "bm9uZQ=="}, "cannot be read"),
        ({"client-certificate": "missing.pem"}, {}, "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    tmp_path: Path, user: dict[str, object], cluster: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        kubeconfig.read(a_kubeconfig(tmp_path, user, **cluster), ENVIRONMENT)


@pytest.mark.parametrize("text", ["", "a: [", "clusters: []\n", "just words"])
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigError, match="config"):
        kubeconfig.read(path, ENVIRONMENT)


def test_a_client_certificate_needs_no_token(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(certificate), "-subj", "/CN=me"),
        ],
        check=True,
        capture_output=True,
    )
    user: dict[str, object] = {"client-certificate": "certificate.pem", "client-key": "key.pem"}
    access = kubeconfig.read(a_kubeconfig(tmp_path, user), ENVIRONMENT)
    assert anyio.run(access.token) is None


def test_what_is_written_is_private_and_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    kubeconfig.write(
        path,
        name="acme-dev",
        server="https://eks.example",
        certificate_authority="",
        token_command=["sh", "-c", 'printf \'{"status": {"token": "mine"}}\''],
        environ={"AWS_CONFIG_FILE": "/x"},
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    access = kubeconfig.read(path, ENVIRONMENT)
    assert access.server == "https://eks.example"
    assert anyio.run(access.token) == "mine"
