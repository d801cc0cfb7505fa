"""``python -m tests.chaos``: run it, print the table, write the JSON, exit 1 on any violation."""

import argparse
import functools
import os
import random
import sys
import tempfile
from pathlib import Path

import anyio

from tests.chaos.run import chaos, left_out
from tests.chaos.script import KINDS

_JSON = Path("build/chaos.json")


def main() -> int:
    """Return the exit code: 0 for no violation, 1 for any."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--kinds", type=_kinds, default=list(KINDS), metavar="KIND,…")
    arguments = parser.parse_args()
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    missing = left_out()
    kinds = [kind for kind in arguments.kinds if kind not in missing]
    print(f"chaos: {arguments.runs} runs, seed {arguments.seed}", flush=True)
    for kind in arguments.kinds:
        if kind in missing:
            print(f"chaos: {kind} is left out: {missing[kind]}", flush=True)
    result = anyio.run(
        functools.partial(
            chaos,
            arguments.runs,
            arguments.seed,
            kinds,
            progress=functools.partial(print, flush=True),
        )
    )
    print(f"\n{result.table()}")
    _JSON.parent.mkdir(exist_ok=True)
    _JSON.write_bytes(result.as_json())
    print(f"\n  → {_JSON}")
    return 1 if result.violations else 0


def _kinds(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    if unknown := [name for name in names if name not in KINDS]:
        raise argparse.ArgumentTypeError(
            f"no kind is called {', '.join(unknown)}; there are {', '.join(KINDS)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
