"""``grape keygen``, and what ``grape deploy`` needs to sign with such a key (docs/signing.md)."""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

from tendril_rt.cli.commands import Commands
from tendril_rt.cli.desk import Desk
from tendril_rt.control.signing import Signer, make_key, read_signer


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


def add_signing(parser: argparse.ArgumentParser) -> None:
    """Add the options that :func:`signing` reads."""
    parser.add_argument(
        "--sign-with",
        metavar="KEY",
        help="sign it with the key in this file (default: GRAPE_SIGNING_KEY; without: not signed)",
    )
    parser.add_argument(
        "--valid-for",
        metavar="HOURS",
        type=_hours,
        default=24.0,
        help="how long the signature holds (default 24; 0: for ever)",
    )


def signing(arguments: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Signer | None, int]:
    """Return what to sign with, if anything, and until when the signature holds (Unix seconds).

    :raises ConfigError: the key cannot be read
    """
    key = arguments.sign_with or environ.get("GRAPE_SIGNING_KEY")
    not_after = int(time.time() + arguments.valid_for * 3600) if arguments.valid_for else 0
    return read_signer(Path(key)) if key else None, not_after


def _hours(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of hours")
    return value
