"""What the exit codes of ``grape`` mean, and how it says why (docs/grape.md has the table)."""

import sys

from tendril_rt.cli.terminal import harmless
from tendril_rt.errors import (
    CloudUnavailable,
    ConfigError,
    KubernetesUnavailable,
    NeverHeard,
    TendrilError,
    Unauthorized,
    Unavailable,
)

DONE = 0
REFUSED = 1
MISUSED = 2  # as argparse has it
NOT_SUCCESSFUL = (
    3  # the provision ended FAILED or CANCELLED (as ``tendril run --once``), the agent is silent
)
NOT_SIGNED_IN = 4
UNREACHABLE = 5
INTERRUPTED = 130

_OF_ERRORS = (
    (ConfigError, MISUSED),
    (Unauthorized, NOT_SIGNED_IN),
    (Unavailable, UNREACHABLE),
    (CloudUnavailable, UNREACHABLE),
    (KubernetesUnavailable, UNREACHABLE),
    (NeverHeard, NOT_SUCCESSFUL),
    (TendrilError, REFUSED),
)

#: Control names the variables of agents; these are grape's of the same things.
_NAMES = {"SUPABASE_URL": "GRAPE_URL", "SUPABASE_KEY": "GRAPE_KEY"}


def complain(command: str, exc: TendrilError | BaseExceptionGroup[BaseException]) -> int:
    """Say on stderr why *command* ended; return its exit code.

    :raises BaseExceptionGroup: it is not ours alone
    """
    if isinstance(exc, TendrilError):
        return _complain_of_one(command, exc)
    ours, rest = exc.split(TendrilError)
    if ours is None or rest is not None:
        raise exc
    return max(complain(command, inner) for inner in ours.exceptions)


def _complain_of_one(command: str, exc: TendrilError) -> int:
    if isinstance(exc, ConfigError):
        print(f"grape {command}: the settings need attention:", file=sys.stderr)
        for problem in exc.problems:
            print(f"  - {harmless(problem, colours=False)}", file=sys.stderr)
    else:
        text = harmless(str(exc), colours=False)
        for theirs, ours in _NAMES.items() if not isinstance(exc, NeverHeard) else ():
            text = text.replace(theirs, ours)  # a diagnosis quotes an agent: its own names stand
        print(f"grape {command}: {text}", file=sys.stderr)
    return next(code for kind, code in _OF_ERRORS if isinstance(exc, kind))
