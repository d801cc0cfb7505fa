"""Terraform's own words about its work, however the stream is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.model import StreamType
from tendril_rt.runner.summary import Summary

OUT, ERR = StreamType.STDOUT, StreamType.STDERR

LOCKED = """
Error: Error acquiring the state lock

Error message: HTTP remote state already locked: ID=93e7
Lock Info:
  ID:        93e70731-4eaf-7a4e-6fb1-1be938887555
  Path:      
  Operation: OperationTypeApply
  Who:       root@vm
  Version:   1.11.4
  Created:   2026-11-21 21:15:12.768127253 +0000 UTC
  Info:      


Terraform acquires a state lock to protect the state from being written
"""  # noqa: W291 - as Terraform prints it


def seen(text: str, *, stream: StreamType = OUT, cuts: list[int] | None = None) -> Summary:
    summary = Summary()
    raw = text.encode()
    start = 0
    for cut in [*sorted(cuts or []), len(raw)]:
        summary.see(stream, memoryview(raw)[start:cut])
        start = max(start, cut)
    return summary


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("Plan: 1 to add, 2 to change, 3 to destroy.", (1, 2, 3, None)),
        ("Plan: 4 to import, 1 to add, 2 to change, 3 to destroy.", (1, 2, 3, 4)),
        ("Apply complete! Resources: 12 added, 0 changed, 1 destroyed.", (12, 0, 1, None)),
        ("Apply complete! Resources: 1 imported, 2 added, 0 changed, 1 destroyed.", (2, 0, 1, 1)),
        ("Destroy complete! Resources: 7 destroyed.", (0, 0, 7, None)),
        ("No changes. Your infrastructure matches the configuration.", (0, 0, 0, None)),
        (
            "You can apply this plan to save these new output values to the Terraform",
            (0, 0, 0, None),
        ),
    ],
)
def test_each_summary_line_is_understood(line: str, counts: tuple[int | None, ...]) -> None:
    resources = seen(f"before\n{line}\nafter\n").resources

    names = ("add", "change", "destroy", "import")
    assert resources == {n: c for n, c in zip(names, counts, strict=True) if c is not None}


@pytest.mark.parametrize(
    "line",
    [
        "terraform_data.x (local-exec): Plan: 9 to add, 9 to change, 9 to destroy.",
        "  + Apply complete! Resources: 9 added, 9 changed, 9 destroyed.",
        "Plan: 1 to add, 2 to change, 3 to destroy." + "x" * 2000,
        "nothing of the kind",
    ],
)
def test_other_lines_are_not(line: str) -> None:
    assert seen(f"{line}\n").resources is None


def test_the_first_summary_stands_whatever_an_output_says() -> None:
    said = "Apply complete! Resources: 1 added, 0 changed, 0 destroyed.\n\nOutputs:\n\nx = <<EOT\n"
    said += "Apply complete! Resources: 9 added, 9 changed, 9 destroyed.\nEOT\n"

    assert seen(said).resources == {"add": 1, "change": 0, "destroy": 0}


def test_stderr_counts_nothing() -> None:
    assert seen("No changes.\n", stream=ERR).resources is None


@given(st.lists(st.integers(0, len(LOCKED)), max_size=12))
def test_cuts_change_nothing(cuts: list[int]) -> None:
    whole = seen(LOCKED, stream=ERR).lock_block
    assert whole is not None
    assert "ID:        93e70731-4eaf-7a4e-6fb1-1be938887555" in whole
    assert seen(LOCKED, stream=ERR, cuts=cuts).lock_block == whole


def test_a_framed_block_is_read_too() -> None:
    framed = "".join(f"│ {line}\n" for line in LOCKED.splitlines())

    block = seen(framed, stream=ERR).lock_block

    assert block is not None
    assert "Operation: OperationTypeApply" in block


def test_a_step_knows_nothing_of_the_one_before() -> None:
    summary = seen("No changes.\nhalf a li")
    summary.see(ERR, memoryview(LOCKED.encode()))
    summary.begin()
    summary.see(OUT, memoryview(b"ne\n"))

    assert summary.resources is None
    assert summary.lock_block is None


def test_a_stream_without_newlines_is_not_kept() -> None:
    summary = Summary()
    for _ in range(1000):
        summary.see(OUT, memoryview(b"x" * 65536))
    summary.see(OUT, memoryview(b"\nNo changes.\n"))

    assert summary.resources == {"add": 0, "change": 0, "destroy": 0}
    assert max(len(rest) for rest in summary._rest.values()) < 2000
