"""Where output may be cut, and that cutting loses nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendril_rt.logs.cut import cut_at as cut_region
from tests.unit.log_support import shown

CHARACTERS = [b"a", b" ", b"\n", "é".encode(), "€".encode(), "🌱".encode()]
ESCAPES = [b"\x1b[0m", b"\x1b[38;5;208m", b"\x1b[2K", b"\x1b]0;a title\x07", b"\x1b7"]
ESCAPES += [b"\x1b]8;;http://x\x1b\\", b"\x1b(B", b"\x1bPq#0\x1b\\"]
#: Limits above the longest escape: below, an escape may have to be cut.
WIDE = st.integers(20, 80)

whole_sequences = st.lists(st.sampled_from(CHARACTERS + ESCAPES), max_size=60)
hostile_bytes = st.lists(
    st.sampled_from([*CHARACTERS, *ESCAPES, b"\x1b", b"\x1b[", b"\x00", b"\x80", b"\xe2\x82"])
    | st.binary(max_size=3),
    max_size=60,
).map(b"".join)
pieces_of = st.lists(st.integers(1, 40), max_size=40)


def cut_at(pending: bytes | bytearray, limit: int) -> int:
    """Cut a buffer that holds nothing else; the same within a larger one."""
    inside = cut_region(b"\x1b[" + pending + b"m\n", 2, 2 + len(pending), limit) - 2
    assert inside == cut_region(pending, 0, len(pending), limit)
    return inside


def cut_up(data: bytes, piece_sizes: list[int], limit: int) -> list[bytes]:
    """Cut *data* as a reader does to which it arrives in pieces of these sizes."""
    pending, chunks, position = bytearray(), [], 0
    for size in [*piece_sizes, len(data)]:
        pending += data[position : position + size]
        position += size
        while pending and (count := cut_at(pending, limit)):
            chunks.append(bytes(pending[:count]))
            del pending[:count]
    return [*chunks, bytes(pending)] if pending else chunks


def boundaries(sequences: list[bytes]) -> set[int]:
    """Return the offsets that lie between whole sequences."""
    offsets, end = {0}, 0
    for sequence in sequences:
        end += len(sequence)
        offsets.add(end)
    return offsets


@settings(deadline=None)
@given(data=hostile_bytes, piece_sizes=pieces_of, limit=st.integers(4, 80))
def test_what_is_shown_of_the_chunks_adds_up_to_what_is_shown_of_the_whole(
    data: bytes, piece_sizes: list[int], limit: int
) -> None:
    chunks = cut_up(data, piece_sizes, limit)
    assert b"".join(chunks) == data
    assert "".join(map(shown, chunks)) == shown(data)


@settings(deadline=None)
@given(sequences=whole_sequences, piece_sizes=pieces_of, limit=WIDE)
def test_no_cut_falls_inside_a_character_or_an_escape(
    sequences: list[bytes], piece_sizes: list[int], limit: int
) -> None:
    allowed, end = boundaries(sequences), 0
    for chunk in cut_up(b"".join(sequences), piece_sizes, limit):
        end += len(chunk)
        assert end in allowed


@settings(deadline=None)
@given(data=hostile_bytes.filter(bool), limit=st.integers(4, 80))
def test_a_cut_is_within_the_limit_and_a_full_buffer_always_moves(data: bytes, limit: int) -> None:
    count = cut_at(data, limit)
    assert 0 <= count <= min(len(data), limit)
    assert count or len(data) < limit


@pytest.mark.parametrize("escape", ESCAPES, ids=repr)
def test_an_escape_that_arrives_in_two_pieces_stays_whole(escape: bytes) -> None:
    before, after = b"text ", b" more"
    for split_at in range(1, len(escape)):
        first = before + escape[:split_at]
        assert cut_at(first, 100) == len(before), split_at
    assert cut_at(before + escape, 100) == len(before + escape)
    for limit in range(len(before) + 1, len(before + escape)):
        assert cut_at(before + escape + after, limit) == len(before), limit


@pytest.mark.parametrize("character", ["é", "€", "🌱"])
def test_a_character_on_the_border_goes_whole_into_the_next_chunk(character: str) -> None:
    encoded = character.encode()
    data = b"x" * 9 + encoded
    for arrived in range(1, len(encoded)):
        assert cut_at(data[: 9 + arrived], 100) == 9
        assert cut_at(data + b"more", 9 + arrived) == 9
    assert cut_at(data, 100) == len(data)


def test_the_last_newline_of_the_second_half_is_preferred() -> None:
    assert cut_at(b"aaaa\nbb\ncccc", 10) == 8


def test_a_newline_in_the_first_half_would_make_chunks_too_small() -> None:
    assert cut_at(b"a\nbbbbbbbbbbbbbb", 10) == 10


def test_without_a_full_buffer_nothing_is_held_back_for_a_newline() -> None:
    assert cut_at(b"line\npart", 10) == 9


def test_nothing_but_the_start_of_a_sequence_waits_for_more() -> None:
    assert cut_at("🌱".encode()[:3], 100) == 0
    assert cut_at(b"\x1b[3", 100) == 0


def test_an_escape_that_never_ends_does_not_hold_back_output_for_ever() -> None:
    assert cut_at(b"\x1b]" + b"x" * 200, 1_000) == 202
    assert cut_at(b"\x1b]" + b"x" * 200, 32) == 32
