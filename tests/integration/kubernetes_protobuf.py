"""Reads the protobuf in which Go clients send objects of kinds that they were compiled with.

Helm keeps its releases in Secrets and sends them so; in answers it takes JSON too. Only what those
need: metadata, labels, annotations, data. Source: ``generated.proto`` of k8s.io/api and
k8s.io/apimachinery.
"""

import base64
from collections.abc import Iterator

from tests.integration.kubernetes_store import Object, Refused

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def decode(body: bytes) -> Object:
    """Return the object in an envelope ``runtime.Unknown``.

    :raises Refused: it is of another kind than those above
    """
    envelope = _message(body.removeprefix(_MAGIC))
    type_meta = _message(_one(envelope, 1))
    kind = _one(type_meta, 2).decode()
    fields = _message(_one(envelope, 2))
    obj: Object = {
        "apiVersion": _one(type_meta, 1).decode(),
        "kind": kind,
        "metadata": _metadata(_message(_one(fields, 1))),
    }
    if kind == "Secret":
        data = _map(fields.get(2, []))
        obj["data"] = {name: base64.b64encode(value).decode() for name, value in data.items()}
        obj["type"] = _one(fields, 3).decode()
    elif kind == "ConfigMap":
        obj["data"] = _texts(fields.get(2, []))
    elif kind != "Namespace":
        raise Refused(415, "UnsupportedMediaType", f"a {kind} in protobuf: not read by this server")
    return obj


def _metadata(fields: dict[int, list[bytes]]) -> Object:
    names = {1: "name", 2: "generateName", 3: "namespace", 6: "resourceVersion"}
    found: Object = {
        name: text for number, name in names.items() if (text := _one(fields, number).decode())
    }
    for number, name in {11: "labels", 12: "annotations"}.items():
        if number in fields:
            found[name] = _texts(fields[number])
    return found


def _texts(entries: list[bytes]) -> dict[str, str]:
    return {name: value.decode() for name, value in _map(entries).items()}


def _map(entries: list[bytes]) -> dict[str, bytes]:
    decoded = [_message(entry) for entry in entries]
    return {_one(entry, 1).decode(): _one(entry, 2) for entry in decoded}


def _one(fields: dict[int, list[bytes]], number: int) -> bytes:
    return fields.get(number, [b""])[-1]


def _message(body: bytes) -> dict[int, list[bytes]]:
    """Return the length-delimited fields of a message by number; numbers are not needed here."""
    found: dict[int, list[bytes]] = {}
    for number, value in _fields(body):
        found.setdefault(number, []).append(value)
    return found


def _fields(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        tag, at = _varint(body, at)
        kind = tag & 7
        if kind == _VARINT:
            _, at = _varint(body, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            length, at = _varint(body, at)
            yield tag >> 3, body[at : at + length]
            at += length
        else:
            raise Refused(400, "BadRequest", f"no protobuf: wire type {kind}")


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (body[at] & 0x7F) << shift
        shift += 7
        at += 1
        if body[at - 1] < 0x80:
            return value, at
