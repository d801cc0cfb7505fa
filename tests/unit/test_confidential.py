"""Which values an attempt keeps out of its log."""

import json

from tendril_rt.agent.confidential import confidential_values
from tendril_rt.model import Snapshot, TemplateSource


def snapshot(
    *,
    repo: str = "https://example.com/t.git",
    sensitive: tuple[str, ...] = (),
    backend: dict[str, str] | None = None,
    **variables: object,
) -> Snapshot:
    return Snapshot(
        TemplateSource(repo, "v1", ""), json.dumps(variables), backend or {}, frozenset(sensitive)
    )


def test_credentials_are_known_by_the_names_of_their_variables() -> None:
    environ = {
        "TENDRIL_API_TOKEN": "tdr_token",
        "SUPABASE_KEY": "anon",
        "AWS_SECRET_ACCESS_KEY": "aws-secret",
        "AWS_SESSION_TOKEN": "session",
        "ARM_CLIENT_SECRET": "arm",
        "DB_PASSWORD": "pass",
        "MY_SECRET_VALUE": "mine",
        "HTTPS_PROXY": "http://user:proxy%20pass@proxy:8080",
        "PATH": "/usr/bin",
        "AWS_REGION": "eu-central-1",
        "HOME": "/home",
    }
    assert confidential_values(environ) == {
        *(b"tdr_token", b"anon", b"aws-secret", b"session", b"arm", b"pass", b"mine"),
        *(b"proxy%20pass", b"proxy pass"),
    }


def test_what_the_snapshot_calls_sensitive_is_taken_however_deep_it_lies() -> None:
    found = confidential_values(
        {},
        snapshot(
            sensitive=("db", "pin", "absent"),
            db={"users": [{"password": "deep-secret"}], "port": 5432, "tls": True},
            pin=9007199254740993,
            name="public",
        ),
    )
    assert found == {b"deep-secret", b"5432", b"9007199254740993"}


def test_credentials_in_the_address_of_a_template_and_of_a_backend_are_taken() -> None:
    found = confidential_values(
        {},
        snapshot(
            repo="https://oauth2:glpat-secret@example.com/t.git",
            backend={"bucket": "b", "key": "path/to/state", "secret_key": "s3-secret"},
        ),
    )
    assert found == {b"glpat-secret", b"s3-secret"}
    assert confidential_values({}, snapshot(repo="https://token-alone@example.com/t.git")) == {
        b"token-alone"
    }
