"""Fixtures of the tests of templates.

A plugin: a module that needs them says ``pytest_plugins = ["tests.integration.git_fixtures"]``.
"""

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .git_support import ENV, MAIN_TF, Fetcher, Host, Repository, serving


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def fetch(tmp_path: Path, home: Path) -> Fetcher:
    return Fetcher(tmp_path, {**ENV, "HOME": str(home)})


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Repository:
    """One commit with a template, on the branch ``main``."""
    path = tmp_path / "repository"
    path.mkdir()
    repository = Repository(path, {**ENV, "HOME": str(home)})
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.write("main.tf", MAIN_TF % "first")
    repository.commit()
    return repository


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of our own, for 127.0.0.1 and localhost, and its key."""
    folder = tmp_path_factory.mktemp("authority")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    names = ("-subj", "/CN=templates", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run(
        ["openssl", "req", "-x509", *curve, *names, *files], check=True, capture_output=True
    )
    return certificate, key


@pytest.fixture
def host(tmp_path: Path, authority: tuple[Path, Path]) -> Iterator[Host]:
    """An HTTPS host of the repositories in the test's folder."""
    with serving(Host(tmp_path, authority[0]), *authority, as_name="127.0.0.1") as host:
        yield host


@pytest.fixture
def other_host(tmp_path: Path, authority: tuple[Path, Path]) -> Iterator[Host]:
    """Another one, of the same repositories."""
    with serving(Host(tmp_path, authority[0]), *authority, as_name="localhost") as host:
        yield host


@pytest.fixture
def fetch_https(fetch: Fetcher, authority: tuple[Path, Path]) -> Fetcher:
    """Checkouts that trust the certificate of our own."""
    return dataclasses.replace(fetch, env={**fetch.env, "GIT_SSL_CAINFO": str(authority[0])})
