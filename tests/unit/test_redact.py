"""What must not be shown is not, however output is split; and ordinary output stays as it is."""

import base64
import json
import random
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tendril_rt.logs.disguises import MAX_FORM_BYTES, forms_of
from tendril_rt.logs.redact import MASK, Redactor

PEM = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA/+=\nab==\n-----END RSA PRIVATE KEY-----"
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"
ACCESS_KEY = b"AKIAIOSFODNN7EXAMPLE"


def redacted(redactor: Redactor, text: bytes, cuts: Iterable[int] = ()) -> bytes:
    """Return what is let through of *text*, which arrives in pieces that end at *cuts*."""
    out: list[bytes] = []
    decided = masked_until = 0
    for end in [*cuts, len(text)]:
        window = memoryview(text)[decided:end]
        scan = redactor.scan(window, final=end == len(text))
        assert 0 <= scan.decided <= len(window)
        position = decided
        for span in scan.masked:
            begin, span_end = span[0] + decided, span[1] + decided
            assert position <= begin < span_end
            if begin >= masked_until:
                out += (text[max(position, masked_until) : begin], MASK)
            position = begin
            masked_until = max(masked_until, span_end)
        out.append(text[max(position, masked_until) : decided + scan.decided])
        decided += scan.decided
    return b"".join(out)


def split(text: bytes, places: Iterable[int]) -> list[int]:
    return sorted({place % len(text) for place in places} - {0}) if text else []


places = st.lists(st.integers(0, 10_000), max_size=30)


def full_of_secrets(chance: random.Random) -> tuple[list[bytes], bytes]:
    """Make secrets of few letters, so that they overlap, and text full of them and of shapes."""
    letters = chance.choice([b"ab", b"abc", b"ab\n", b"aab1", b"AKI-e.", b"eyJ."])

    def word(least: int, most: int) -> bytes:
        return bytes(chance.choice(letters) for _ in range(chance.randint(least, most)))

    secrets = [word(6, 9) for _ in range(chance.randint(1, 4))]
    shapes = [PEM, JWT, ACCESS_KEY, PEM[:40], JWT[:25], b"-----BEGIN CERTIFICATE-----\nMII\n"]
    return secrets, b"".join(
        chance.choice([*secrets, *shapes, word(1, 8), word(1, 8)]) for _ in range(8)
    )


@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_splits_change_nothing_and_let_no_secret_through(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(100):
        secrets, text = full_of_secrets(chance)
        redactor = Redactor(secrets)
        whole = redacted(redactor, text)
        for _ in range(10):
            cuts = split(text, chance.choices(range(len(text)), k=chance.choice([1, 3, 10, 40])))
            assert redacted(redactor, text, cuts) == whole, (secrets, text, cuts)
        for secret in secrets:
            if len(secret.strip()) >= 6:
                assert secret.strip() not in whole


@settings(deadline=None, max_examples=100)
@given(
    secret=st.text(st.characters(codec="utf-8"), min_size=6, max_size=40)
    .map(lambda text: text.replace("\0", "").strip())
    .filter(lambda text: len(text.encode()) >= 6 and len(text.splitlines()) == 1),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
    splits=places,
)
def test_a_secret_is_found_in_every_form_that_programs_write(
    secret: str, before: bytes, after: bytes, splits: list[int]
) -> None:
    raw = secret.encode()
    redactor = Redactor([raw])
    forms = [
        raw,
        json.dumps(secret)[1:-1].encode(),
        json.dumps(secret, ensure_ascii=False)[1:-1].encode(),
        quote(secret).encode(),
        quote(secret, safe="").encode(),
        quote_plus(secret).encode(),
    ]
    for form in forms:
        text = b"<" + form + b">"
        assert redacted(redactor, text, split(text, splits)) == b"<[redacted]>"
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = b"<" + encode(before + raw + after) + b">"
        shown = redacted(redactor, text, split(text, splits))
        assert MASK in shown
        assert len(shown) <= len(b"<[redacted]>") + 8 + -(-8 * (len(before) + len(after)) // 6)


def test_each_telling_line_of_a_secret_is_masked_alone_and_ordinary_ones_are_not() -> None:
    secret = b'{\n  "type": "object",\n  "private_key_id": "0123456789abcdef",\n}\n'
    redactor = Redactor([secret])
    text = b'+ "private_key_id": "0123456789abcdef",\n} then\n'
    assert redacted(redactor, text) == b"+ [redacted]\n} then\n"
    assert redacted(redactor, secret) == b"[redacted]\n"


@pytest.mark.parametrize("secret", [b"", b"short", b"  abc  ", b"\n\n\n\n\n\n\n"])
def test_what_is_too_short_masks_nothing(secret: bytes) -> None:
    assert forms_of([secret]) == set()


def test_a_very_long_secret_is_masked_and_holds_back_little() -> None:
    secret = bytes(33 + i * i % 90 for i in range(3 * MAX_FORM_BYTES))
    assert max(map(len, forms_of([secret]))) <= MAX_FORM_BYTES
    redactor = Redactor([secret])
    shown = redacted(redactor, b"<" + secret + b">", range(1, len(secret), 9999))
    assert re.fullmatch(rb"<(\[redacted\])+>", shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"id " + ACCESS_KEY + b" used", b"id [redacted] used"),
        (b"id ASIAIOSFODNN7EXAMPLE", b"id [redacted]"),
        (b"AKIA is a prefix, AKIAlower is none", b"AKIA is a prefix, AKIAlower is none"),
        (b"Bearer " + JWT + b"\n", b"Bearer [redacted]\n"),
        (b"eyJub3QiOiJhIHRva2VuIn0 alone", b"eyJub3QiOiJhIHRva2VuIn0 alone"),
        (b"key:\n" + PEM + b"\nnext", b"key:\n[redacted]\nnext"),
        (PEM.replace(b"\n", b"\\n") + b'"', b'[redacted]"'),
        (PEM.replace(b"RSA", b"OPENSSH"), b"[redacted]"),
        (PEM.replace(b"\n", b"\n      - ") + b";", b"[redacted];"),
        (PEM[:50] + b"_", b"[redacted]_"),
        (
            b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n",
        ),
        (b"----------\n-----BEGIN \n", b"----------\n-----BEGIN \n"),
    ],
)
def test_shapes_of_secrets_are_masked_and_what_only_begins_like_one_is_not(
    text: bytes, shown: bytes
) -> None:
    redactor = Redactor()
    assert redacted(redactor, text) == shown
    assert redacted(redactor, text, range(1, len(text))) == shown


@pytest.mark.parametrize("start", [b"-----BEGIN RSA PRIVATE KEY-----", b"eyJ", b"AKIA", b"secret"])
def test_what_is_held_back_is_bounded(start: bytes) -> None:
    redactor = Redactor([b"secretsecret"])
    text = start + b"A" * 40_000
    scan = redactor.scan(memoryview(text), final=False)
    assert scan.decided >= len(text) - 16 * 1024


@pytest.mark.parametrize("text", [b"Apply complete!\n", b"Still creating... [10s]\n", b"-----\n"])
def test_ordinary_lines_are_not_held_back(text: bytes) -> None:
    redactor = Redactor([b"hunter2hunter2"])
    assert redactor.scan(memoryview(text), final=False).decided == len(text)


def test_messages_are_redacted_like_output() -> None:
    redactor = Redactor([b"s3cr3t-t0ken"])
    assert redactor.redact_text("fatal: https://x:s3cr3t-t0ken@host/ü") == (
        "fatal: https://x:[redacted]@host/ü"
    )
    assert redactor.redact_text("nothing in it") == "nothing in it"


def test_hundreds_of_forms_are_all_found() -> None:
    secrets = [b"%04d" % number + b"-of-many-secrets" for number in range(300)]
    redactor = Redactor(secrets)
    text = b" ".join(secrets)
    assert redacted(redactor, text) == b" ".join([MASK] * 300)
