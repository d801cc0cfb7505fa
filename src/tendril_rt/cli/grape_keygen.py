"""``grape keygen``: a key to sign provisions with (docs/signing.md)."""

import argparse
from pathlib import Path

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.control.signing import make_key


def add(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    keygen = commands.add_parser(
        "keygen", parents=[common], help="make a key to sign provisions with"
    )
    keygen.add_argument("file", help="the new key file; its public key is printed")
    keygen.set_defaults(run=_keygen)


async def _keygen(arguments: argparse.Namespace, desk: Desk) -> int:
    signer = make_key(Path(arguments.file))
    if desk.output.as_json:
        desk.output.json({"file": arguments.file, "public_key": signer.public_key})
        return 0
    print(signer.public_key, file=desk.output.out, flush=True)
    desk.output.note(
        f"^ into TENDRIL_TRUSTED_KEYS of your agents; keep {arguments.file} to yourself"
    )
    return 0
