"""The command ``tendril``."""

import argparse
import sys
from collections.abc import Sequence

from tendril_rt import __version__
from tendril_rt.cli.terminal import harmless, survive_narrow_terminals
from tendril_rt.errors import TendrilError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the process's exit code (2: used or configured wrongly)."""
    survive_narrow_terminals()
    arguments = _parser().parse_args(argv)
    try:
        return _dispatch(arguments)
    except TendrilError as exc:
        _complain(arguments.command, exc)
        return 1
    except BaseExceptionGroup as group:
        expected, rest = group.split(TendrilError)
        if expected is None or rest is not None:
            raise
        for leaf in _leaves(expected):
            _complain(arguments.command, leaf)
        return 1
    except KeyboardInterrupt:
        return 130


def _complain(command: str, exc: BaseException) -> None:
    print(f"tendril {command}: {harmless(str(exc), colours=False)}", file=sys.stderr)


def _leaves(group: BaseExceptionGroup[TendrilError]) -> list[BaseException]:
    found: list[BaseException] = []
    for exc in group.exceptions:
        found += _leaves(exc) if isinstance(exc, BaseExceptionGroup) else [exc]
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tendril", description="A remote Terraform agent.")
    parser.add_argument("--version", action="version", version=f"tendril {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    run = commands.add_parser("run", help="be an agent; settings from the environment")
    run.add_argument(
        "--once",
        action="store_true",
        help="run one provision and end: 0 SUCCESS, 3 FAILED or CANCELLED, 4 not reported",
    )
    doctor = commands.add_parser("doctor", help="check everything an agent needs, say what to fix")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    dev = commands.add_parser("dev", help="start an embedded control plane on loopback")
    dev.add_argument("--json", action="store_true", help="print one JSON line once it is ready")
    dev.add_argument("--data", metavar="FOLDER", help="keep the data there (default: thrown away)")
    dev.add_argument(
        "--port", type=_port, default=0, help="of the HTTP gateway (default: a free one)"
    )
    dev.add_argument(
        "--changes-interval-s",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="hold postgres_changes until the next multiple of S seconds, as Supabase's poller "
        "does (idle: 0.5); broadcasts never wait (default: 0, at once)",
    )
    dev.add_argument(
        "--token-life-s",
        type=_life_s,
        default=3600,
        metavar="S",
        help="how long the access token of who signs in is good (default: 3600)",
    )
    dev.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="EMAIL",
        help="make one more user beside the owner (repeatable); the password is printed",
    )
    demo = commands.add_parser("demo", help="run everything once on this machine and watch it")
    demo.add_argument("--once", action="store_true", help="end after the first provision")
    demo.add_argument("--data", metavar="FOLDER", help="keep the data there (default: thrown away)")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no time in seconds: 0 to 60")
    return seconds


def _life_s(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 7 * 24 * 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no life of a token: 1 to 604800 seconds")
    return int(text)


def _dispatch(arguments: argparse.Namespace) -> int:
    # Imported late: an agent must not pay for the embedded plane, nor need its extra.
    match arguments.command:
        case "run":
            from tendril_rt.cli.opaque import become_opaque

            is_opaque = become_opaque()  # first of all: templates of a former life may still run
            from tendril_rt.cli.run import run

            return run(once=arguments.once, is_opaque=is_opaque)
        case "doctor":
            from tendril_rt.cli.doctor import doctor

            return doctor(as_json=arguments.json)
        case "dev":
            from tendril_rt.cli.dev import dev

            return dev(
                arguments.data,
                arguments.port,
                as_json=arguments.json,
                changes_interval_s=arguments.changes_interval_s,
                token_life_s=arguments.token_life_s,
                user_emails=arguments.user,
            )
        case _:
            from tendril_rt.cli.demo import demo

            return demo(arguments.data, once=arguments.once)


if __name__ == "__main__":
    sys.exit(main())
