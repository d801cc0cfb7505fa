"""``grape eks-token``: what the kubeconfig of a bootstrapped cluster runs to get a token."""

import argparse

import anyio.to_thread

from tendril_rt.bootstrap.cloud import Aws
from tendril_rt.cli import bootstrap_request
from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.cli.exits import DONE


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    token = commands.add_parser(
        "eks-token", parents=[common], help="print a token for a cluster's API, as kubeconfigs want"
    )
    for name in ("--cluster", "--region"):
        token.add_argument(name, required=True)
    for name in ("--profile", "--role-arn"):
        token.add_argument(name)
    token.set_defaults(run=_token)


async def _token(arguments: argparse.Namespace, desk: Desk) -> int:
    bootstrap_request.forget_empty_profile()
    aws = Aws(arguments.region, arguments.profile, arguments.role_arn)
    token, until = await anyio.to_thread.run_sync(aws.cluster_token, arguments.cluster)
    status = {"token": token, "expirationTimestamp": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
    version = "client.authentication.k8s.io/v1beta1"
    desk.output.json({"apiVersion": version, "kind": "ExecCredential", "status": status})
    return DONE
