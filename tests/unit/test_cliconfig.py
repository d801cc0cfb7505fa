"""Terraform's own configuration file, as the agent writes it."""

from pathlib import Path

import pytest

from tendril_rt.errors import ConfigError
from tendril_rt.runner import backend, cliconfig


def test_without_a_setting_the_environment_holds(tmp_path: Path) -> None:
    environ = {"TF_CLI_CONFIG_FILE": "/etc/own"}

    config = cliconfig.write(tmp_path, cache=None, mirror=None, environ=environ)

    assert (config.env, config.shares_cache) == ({}, False)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_of_the_environment_is_shared_too(tmp_path: Path) -> None:
    environ = {"TF_PLUGIN_CACHE_DIR": "/cache"}

    assert cliconfig.write(tmp_path, cache=None, mirror=None, environ=environ).shares_cache


def test_a_cache_is_made_and_named(tmp_path: Path) -> None:
    cache = tmp_path / 'ca"che'

    config = cliconfig.write(tmp_path, cache=cache, mirror=None, environ={})

    path = Path(config.env["TF_CLI_CONFIG_FILE"])
    assert config.shares_cache
    assert cache.is_dir()
    assert 'ca\\"che' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_mirror_serves_what_it_holds_and_nothing_else(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "registry.terraform.io" / "hashicorp" / "aws").mkdir(parents=True)
    (mirror / "registry.terraform.io" / "hashicorp" / "stray-file").touch()

    config = cliconfig.write(tmp_path, cache=None, mirror=mirror, environ={})

    text = Path(config.env["TF_CLI_CONFIG_FILE"]).read_text()
    assert text.count('["registry.terraform.io/hashicorp/aws"]') == 2
    assert not config.shares_cache


def test_a_mirror_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TENDRIL_PLUGIN_MIRROR_DIR: .*missing cannot be used"):
        cliconfig.write(tmp_path, cache=None, mirror=tmp_path / "missing", environ={})


def test_a_default_backend_must_keep_stacks_apart(tmp_path: Path) -> None:
    file = tmp_path / "backend.tf"
    with pytest.raises(ConfigError, match=r"cannot read .*backend\.tf"):
        backend.read_default_backend(file)
    file.write_text('terraform { backend "s3" { key = "all" } }')
    with pytest.raises(ConfigError, match="all stacks would share one state"):
        backend.read_default_backend(file)
    file.write_text('terraform { backend "s3" { key = "__STACK__" } }')

    assert backend.read_default_backend(file) == file.read_text()
    assert backend.read_default_backend(None) is None
