"""The dashboard's own logic under Node, and its hashes against the agent's."""

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tendril_rt.control.snapshot import snapshot_hash
from tendril_rt.errors import SnapshotError

FOLDER = Path(__file__).parents[1] / "dashboard"
ATOMS = [
    *("0", "-0", "1", "-1", "9007199254740991", "-9007199254740991", "9007199254740992", "1e21"),
    *("1.0", "1.10", "0.1", "1e-7", "1E+2", "123456789012345678901234567890", "1e400", "5e-324"),
    *("4.35", "333333333.33333329", "1e23", "9.999999999999999e22", "0.000001", "-1.5e-9", "1e15"),
    *(
        "null",
        "true",
        "false",
        '""',
        '"a"',
        '"\\u20ac"',
        '"\\ud83d\\ude00"',
        '"\\n\\t\\u0000\\u001f"',
    ),
    *('"\\u007f\\u0080\\u2028"', '"/"', '"\\/"', '"\\ufb33"', '"é"', '"\\ud800"', "[]", "{}"),
]
KEYS = [
    "a",
    "b",
    "aa",
    "A",
    "",
    "é",
    "€",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
    "\ufb33",
    "1",
    "10",
    "2",
    "\r",
    "__proto__",
]


def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node on PATH: the dashboard's own logic is tried in the browser only")
    return found


def documents(count: int) -> list[str]:
    """Return JSON texts, the same each time."""
    chance = random.Random(8785)

    def value(depth: int) -> str:
        kind = chance.random()
        if depth == 0 or kind < 0.4:
            return chance.choice(ATOMS)
        items = [value(depth - 1) for _ in range(chance.randrange(4))]
        if kind < 0.6:
            return f"[{', '.join(items)}]"
        keys = chance.choices(KEYS, k=len(items))
        return (
            "{" + ",".join(f"{json.dumps(k)}: {v}" for k, v in zip(keys, items, strict=True)) + "}"
        )

    return [*ATOMS, *(value(4) for _ in range(count))]


def agents_hash(text: str) -> str | None:
    try:
        return snapshot_hash(text)
    except SnapshotError:
        return None


def test_the_modules_do_what_they_say() -> None:
    files = sorted(str(path) for path in FOLDER.glob("*.test.mjs"))
    done = subprocess.run([node(), "--test", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass" in done.stdout


def test_the_browsers_hash_is_the_agents() -> None:
    texts = documents(3000)
    done = subprocess.run(
        [node(), str(FOLDER / "hash_lines.mjs")],
        input="".join(f"{json.dumps(text)}\n" for text in texts),
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = done.stdout.splitlines()
    assert len(theirs) == len(texts)
    ours = [agents_hash(text) for text in texts]
    differing = [
        (text, our, their)
        for text, our, their in zip(texts, ours, theirs, strict=True)
        if (our or their) != their or (our is None) != (their in ("NoHash", "JsonError"))
    ]
    assert differing == []
    assert sum(our is not None for our in ours) > 1000
