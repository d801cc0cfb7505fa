"""Broadcasts from the database: rows of ``realtime.messages``, as clients get them.

Owns the shape of a broadcast on the wire. Must never decide who hears it.
"""

from dataclasses import dataclass

import orjson

from tendril_rt.local.gateway.replication import Row

_USER_BROADCAST = 4  # of the binary frames that vsn 2.0.0 has besides its arrays
_JSON = 1
_MAX_PART_BYTES = 255


@dataclass(frozen=True)
class Message:
    """One message.

    :param payload: JSON as Postgres words it
    """

    id: str
    topic: str
    event: str
    is_private: bool
    payload: bytes

    @classmethod
    def inserted(cls, row: Row) -> "Message | None":
        """Return the message in *row*, as it is streamed; None if a part is missing."""
        parts = [row.get(name) for name in ("id", "topic", "event", "private", "payload")]
        if None in parts:
            return None
        message_id, topic, event, private, payload = parts
        texts = str(message_id), str(topic), str(event)
        return cls(*texts, is_private=private == "t", payload=orjson.dumps(payload))

    def as_payload(self, **meta: object) -> dict[str, object]:
        """Return the payload of a frame, with more *meta* data if given."""
        return {
            "type": "broadcast",
            "event": self.event,
            "payload": orjson.Fragment(self.payload),
            "meta": {"id": self.id, **meta},
        }

    def as_binary(self, topic: str) -> bytes | None:
        """Return the frame that vsn 2.0.0 has for it; None if a part is too long for that."""
        parts = (topic.encode(), self.event.encode(), orjson.dumps({"id": self.id}))
        sizes = [len(part) for part in parts]
        if max(sizes) > _MAX_PART_BYTES:
            return None
        return b"".join([bytes([_USER_BROADCAST, *sizes, _JSON]), *parts, self.payload])
