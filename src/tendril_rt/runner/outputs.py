"""A run's outputs, fit to be shown: without those marked sensitive, and bounded. Pure."""

import json
from collections.abc import Mapping

_MAX_BYTES = 64 * 1024  # of the 256 KiB that the control plane takes as metadata in one report
_MAX_DEPTH = 50
_MAX_EXACT = 2**53 - 1


def parse(text: str) -> Mapping[str, object]:
    """Read what ``output -json`` printed; return the values by name, within 64 KB of JSON.

    Numbers that JSON readers round become text. Outputs that no longer fit are left out.

    :raises ValueError: it is something else
    """
    said = json.loads(text, parse_int=_exact_integer, parse_float=_exact_float)
    if not isinstance(said, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of the text, not of an argument
    shown: dict[str, object] = {}
    left_bytes = _MAX_BYTES
    for name, output in said.items():
        if not isinstance(output, dict) or output.get("sensitive") is not False:
            continue
        value = _storable(output.get("value"), _MAX_DEPTH)
        left_bytes -= len(json.dumps({name: value}))
        if left_bytes < 0:
            break
        shown[name] = value
    return shown


def _storable(value: object, depth: int) -> object:
    """Return *value* without what jsonb refuses: NUL, half characters, and nesting without end."""
    if depth == 0:
        return "…"
    if isinstance(value, str):
        return value.replace("\0", "").encode(errors="replace").decode()
    if isinstance(value, list):
        return [_storable(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {str(_storable(name, 1)): _storable(item, depth - 1) for name, item in value.items()}
    return value


def _exact_integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 17 and abs(int(digits)) <= _MAX_EXACT else digits


def _exact_float(digits: str) -> float | str:
    value = float(digits)
    return value if repr(value) == digits else digits
