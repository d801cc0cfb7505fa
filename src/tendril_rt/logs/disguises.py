"""The forms in which a secret shows up in output: as it is, in JSON, in a URL, in base64, by line.

Pure. A form shorter than 6 bytes is left out: it would mask ordinary text.
"""

import base64
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_from_bytes, quote_plus

MIN_SECRET_BYTES = 6
#: A line of a secret of several lines, alone, may be ordinary ("type": "object",): only one that is
#: long enough to be telling is masked alone. What a shorter last line of a key gives away is worth
#: less than the readability of every log that has a closing brace in it.
MIN_LINE_BYTES = 16
#: Longer forms are looked for in pieces, so that what is held back stays small.
MAX_FORM_BYTES = 16 * 1024


def forms_of(secrets: Iterable[bytes]) -> set[bytes]:
    """Return every form of every secret that is worth looking for."""
    found: set[bytes] = set()
    for secret in secrets:
        whole = secret.replace(b"\0", b"").strip()  # as logs show it
        if len(whole) < MIN_SECRET_BYTES:
            continue
        found.update(_forms_of_one(whole))
        lines = [line.strip() for line in whole.splitlines()]
        if len(lines) > 1:
            for line in lines:
                if len(line) >= MIN_LINE_BYTES and not _is_marker(line):
                    found.update(_forms_of_one(line))
    return {piece for form in found for piece in _pieces(form)}


def _forms_of_one(secret: bytes) -> Iterator[bytes]:
    forms = {secret, *_encoded(secret)}
    try:
        text = secret.decode("utf-8")
    except UnicodeDecodeError:
        forms.update(_quoted(quote_from_bytes(secret, safe="")))
    else:
        forms.update(form.encode() for form in _written(text))
        forms.update(_quoted(quote(text, safe="")), _quoted(quote(text)), _quoted(quote_plus(text)))
    return (form for form in forms if len(form) >= MIN_SECRET_BYTES)


def _written(text: str) -> Iterator[str]:
    """In JSON as Python, JavaScript and Go write it, and in HCL (Terraform's own output)."""
    for ascii_only in (True, False):
        written = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield written
        html_safe = written
        for character in "<>&":
            html_safe = html_safe.replace(character, f"\\u{ord(character):04x}")
        yield html_safe
        yield written.replace("${", "$${").replace("%{", "%%{")


def _quoted(quoted: str) -> set[bytes]:
    """Both cases of the digits of percent-encoding."""
    head, *escaped = quoted.split("%")
    lower = "%".join([head, *(part[:2].lower() + part[2:] for part in escaped)])
    return {quoted.encode(), lower.encode()}


def _encoded(secret: bytes) -> Iterator[bytes]:
    """Base64 at each of the three places in a group, in both alphabets, without shared digits."""
    for before in range(3):
        digits = base64.b64encode(b"\0" * before + secret)
        first, last = -(-8 * before // 6), 8 * (before + len(secret)) // 6
        yield digits[first:last]
        yield digits[first:last].translate(_URL_SAFE)


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _is_marker(line: bytes) -> bool:
    return line.startswith(b"-----BEGIN ") or line.startswith(b"-----END ")


def _pieces(form: bytes) -> Iterator[bytes]:
    count = -(-len(form) // MAX_FORM_BYTES)
    size = -(-len(form) // count)
    return (form[i : i + size] for i in range(0, len(form), size))
