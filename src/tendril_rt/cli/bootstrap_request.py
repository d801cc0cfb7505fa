"""The options of ``grape bootstrap``, read into what is to be bootstrapped."""

import argparse
import json
import os
import re
from pathlib import Path

from tendril_rt.bootstrap.plan import Request
from tendril_rt.cli import itself
from tendril_rt.cli.desk import Desk
from tendril_rt.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def forget_empty_profile() -> None:
    """Take AWS_PROFILE, where it is empty, for unset: botocore looks for a profile of no name."""
    if not os.environ.get("AWS_PROFILE"):
        os.environ.pop("AWS_PROFILE", None)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser."""
    parser.add_argument("project", help="first part of every name, such as acme")
    parser.add_argument("--region", required=True, help="AWS region")
    parser.add_argument("--environment", default="bootstrap", help="second part of every name")
    cloud = parser.add_argument_group("AWS")
    cloud.add_argument("--profile", help="of AWS's configuration files")
    cloud.add_argument("--role-arn", help="role to assume, such as one of another account")
    cloud.add_argument("--vpc-id", help="use this VPC instead of making one")
    cloud.add_argument("--subnet", action="append", default=[], help="private ones of that VPC")
    cloud.add_argument(
        "--api-access", action="append", default=[], metavar="CIDR", help="may reach the API"
    )
    cloud.add_argument(
        *("--var", "-v"),
        action="append",
        default=[],
        metavar="NAME=JSON",
        help="any other variable of templates/bootstrap; a text needs no quotes",
    )
    cloud.add_argument(
        "--backend",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="setting of an S3 backend for the state (bucket, key, region, …)",
    )
    agent = parser.add_argument_group("the agent")
    agent.add_argument("--kubeconfig", type=Path, help="use this one instead of making one")
    agent.add_argument("--image", help="repository[:tag] of the agent's image")
    agent.add_argument("--values", type=Path, help="JSON or YAML file of values for charts/tendril")
    agent.add_argument(
        "--timeout", type=float, default=600.0, metavar="S", help="for its first heartbeat"
    )
    parser.add_argument("--data", type=Path, help="folder of journal, state and kubeconfig")


def read(arguments: argparse.Namespace, desk: Desk) -> Request:
    """Return what the options ask for.

    :raises ConfigError: with everything that is wrong with them
    """
    name = f"{arguments.project}-{arguments.environment}"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name: lower case letters, digits and single hyphens")
    project = desk.account.project()
    environ = desk.environ
    home = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME", "/"), ".local", "share")
    chart_values = _values(arguments.values)
    if arguments.image:
        repository, _, tag = arguments.image.partition(":")
        if "/" in tag:  # the colon was a registry's port
            repository, _, tag = arguments.image.rpartition(":")
        image = {"repository": repository, **({"tag": tag} if tag else {})}
        chart_values = {**chart_values, "image": image}
    return Request(
        project=arguments.project,
        environment=arguments.environment,
        region=arguments.region,
        url=project.url,
        api_key=project.api_key,
        folder=arguments.data.absolute() if arguments.data else Path(home, "grape", name),
        environ=environ,
        token_command=itself.argv_of("grape", "eks-token"),
        variables=_variables(arguments),
        backend=dict(_pair(text) for text in arguments.backend),
        kubeconfig=arguments.kubeconfig.absolute() if arguments.kubeconfig else None,
        chart_values=chart_values,
        profile=arguments.profile,
        role_arn=arguments.role_arn,
        heartbeat_s=arguments.timeout,
    )


def _variables(arguments: argparse.Namespace) -> dict[str, object]:
    found: dict[str, object] = {}
    if arguments.vpc_id:
        found["vpc_id"] = arguments.vpc_id
        found["private_subnet_ids"] = arguments.subnet
    if arguments.api_access:
        found["cluster_public_access_cidrs"] = arguments.api_access
    for name, text in map(_pair, arguments.var):
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigError(f"{text!r} is not NAME=VALUE")
    return name, value


def _values(file: Path | None) -> dict[str, object]:
    if file is None:
        return {}
    import yaml

    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise ConfigError(f"{file} cannot be read: {exc}") from exc
    if not isinstance(values, dict):
        raise ConfigError(f"{file} is no mapping of values")
    return values
