"""What templates and servers print cannot command the terminal of whoever reads it."""

import io
import logging as log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.cli import logging
from tendril_rt.cli.follow import Screen
from tendril_rt.cli.terminal import harmless
from tendril_rt.control.owner import LogRow
from tendril_rt.model import Status, StreamType

HOSTILE = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJmIH4=\x1b\\",
    "a link": "\x1b]8;;https://evil.example\x07here\x1b]8;;\x07",
    "a question that the terminal answers": "\x1b[c\x1b[6n\x1bP$q q\x1b\\",
    "the lines before": "\x1b[2A\x1b[2K\r",
    "one byte instead of two": "\x9b2J\x9d0;owned\x9c",
    "never ends": "\x1b]0;and so on",
    "backspaces": "success\b\b\b\b\b\b\b",
    "a bell": "\x07",
    "right to left": "\u202egnp.exe\u202c",
    "another alphabet": "\x1b(0\x0e",
}


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_command_to_the_terminal_is_left_out(text: str) -> None:
    shown = harmless(f"before {text} after")

    assert shown.startswith("before ")
    assert shown.isprintable(), repr(shown)


def test_colours_stay_and_end_with_the_line() -> None:
    assert harmless("\x1b[1;31mred\x1b[0m\tčeské 🐴") == "\x1b[1;31mred\x1b[0m\tčeské 🐴\x1b[0m"
    assert harmless("\x1b[31mred", colours=False) == "red"
    assert harmless("plain") == "plain"


@given(st.text(st.sampled_from("\x1b[]P\\0;mX^_ a\x07\x9b\x9c\r\u202e") | st.characters()))
def test_nothing_but_colours_is_left_of_any_text(text: str) -> None:
    colourless = harmless(text, colours=False)

    assert not any((c < " " and c not in "\t\n") or "\x7f" <= c <= "\x9f" for c in colourless)
    assert harmless(colourless) == colourless


@pytest.mark.parametrize("out", [_Terminal(), io.StringIO()], ids=["terminal", "pipe"])
def test_a_log_is_harmless_on_a_terminal_and_whole_in_a_pipe(out: io.StringIO) -> None:
    screen = Screen(out=out, clock=lambda: 0.0)
    everything = "".join(HOSTILE.values())

    screen.log(LogRow(1, 0, StreamType.STDOUT, f"{everything}\nrest{HOSTILE['title']}"))
    screen.finish()
    screen.status(Status.FAILED, f"terraform said {HOSTILE['clipboard']}")

    is_whole = all(text in out.getvalue() for text in HOSTILE.values())
    assert is_whole is not out.isatty()
    if out.isatty():
        assert "\x1b]" not in out.getvalue()
        assert "\x1b[2K" not in out.getvalue()


def test_no_text_of_others_passes_for_a_record_of_the_agents_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logging.configure("info", "console")

    log.getLogger("x").warning(
        "refused: %s", "no\n12:00:00Z INFO    all is well\x1b[1A\x1b]0;x\x07"
    )

    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("refused: no")
    assert second == "  12:00:00Z INFO    all is well"
