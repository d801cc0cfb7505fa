"""What the printer prints is what the judge takes for whole; files are read for what they hold."""

import json
import os
import subprocess
from pathlib import Path

from tests.chaos.evidence import Case, Chunk, Row, lines_kept, read_witness, state_token
from tests.chaos.judge import judge
from tests.chaos.scene import TEMPLATE
from tests.chaos.script import Run

_RUN = Run(number=3, cluster=0, stack="stack", lines=20, burst=7, pause_s=0.001, strikes=())


def _print(folder: Path) -> tuple[str, str]:
    """Run the printer below a shell, which stands for Terraform; return its two streams."""
    environment = {
        **os.environ,
        "TOKEN": _RUN.token,
        "STACK": _RUN.stack,
        "WITNESS_DIR": str(folder),
        "LINES_EACH": str(_RUN.lines),
        "BURST": str(_RUN.burst),
        "PAUSE_S": str(_RUN.pause_s),
    }
    argv = ["/bin/sh", "-c", f"/bin/sh {TEMPLATE / 'printer.sh'}; exit $?"]
    done = subprocess.run(argv, env=environment, capture_output=True, check=True)
    return done.stdout.decode(), done.stderr.decode()


def test_the_printer_prints_whole_lines_and_witnesses_each(tmp_path: Path) -> None:
    out, err = _print(tmp_path)
    witness = read_witness(tmp_path / _RUN.token)
    assert witness.printed == dict.fromkeys(("out", "err", "ui"), _RUN.lines)
    assert (len(witness.starts), len(witness.ends), witness.overlaps) == (1, 1, 0)
    over_at = witness.ends[0] + 1.0
    row = Row("id", 1, "stack", "SUCCESS", 1, "agent", None, None, {}, over_at, has_lease=False)
    chunks = (
        Chunk("id", 1, 0, 0, "STDOUT", out),
        Chunk("id", 1, 1, len(out.encode()), "STDERR", err),
    )
    assert judge(Case(_RUN, "id", row, chunks, (), witness, (), None)) == []


def test_two_printers_of_one_stack_at_once_are_witnessed(tmp_path: Path) -> None:
    lock = tmp_path / f"{_RUN.stack}.lock"
    with subprocess.Popen(["flock", lock, "cat"], stdin=subprocess.PIPE) as other:
        try:
            while (
                subprocess.run(["flock", "--nonblock", lock, "true"], check=False).returncode == 0
            ):
                pass
            _print(tmp_path)
        finally:
            other.terminate()
    assert read_witness(tmp_path / _RUN.token).overlaps == 1


def test_an_apply_that_never_began_has_no_witness(tmp_path: Path) -> None:
    assert read_witness(tmp_path / "run0009").starts == ()


def test_lines_are_found_in_files_of_any_format(tmp_path: Path) -> None:
    out, err = _print(tmp_path)
    spool = tmp_path / "state" / "spool"
    spool.mkdir(parents=True)
    (spool / "a").write_bytes(b"\0\xff" + out.encode()[:400] + b"\0\1\2" + err.encode())
    kept = lines_kept(tmp_path / "state")[_RUN.token]
    assert kept["err"] == _RUN.lines
    assert 0 < kept["out"] < _RUN.lines


def test_a_state_that_is_torn_or_not_there_is_nobodys(tmp_path: Path) -> None:
    path = tmp_path / "terraform.tfstate"
    assert state_token(path) is None
    text = json.dumps({"outputs": {"token": {"value": "run0003"}}})
    path.write_text(text)
    assert state_token(path) == "run0003"
    path.write_text(text[:-1])
    assert state_token(path) is None
