"""What clients of Realtime send: Phoenix frames, as objects or as arrays of the same five parts.

Owns which settings of a join are understood; what is not offered has a name. Others are ignored.
"""

from typing import Annotated

import orjson
from pydantic import BaseModel, BeforeValidator

from tendril_rt.local.gateway.access import Binding

_ARRAY = ("join_ref", "ref", "topic", "event", "payload")


class Broadcast(BaseModel):
    """What is asked of broadcasts; ``ack`` and ``self`` are about those that clients send."""

    replay: dict[str, object] | None = None
    replication_ready: bool = False


class Config(BaseModel):
    """What a join asks for."""

    postgres_changes: list[Binding] = []
    private: bool = False
    presence: dict[str, object] | None = None
    broadcast: Annotated[Broadcast, BeforeValidator(lambda sent: sent or {})] = Broadcast()

    def beyond_offer(self) -> str | None:
        """Return the first thing asked for that the embedded control plane has not."""
        asked = {
            "presence": (self.presence or {}).get("enabled"),
            "`select`": any("select" in one.as_sent() for one in self.postgres_changes),
        }
        return next((feature for feature, is_asked in asked.items() if is_asked), None)


class Payload(BaseModel):
    """Of a join, or of ``access_token``; other events have no payload that matters."""

    config: Config = Config()
    access_token: str | None = None


class Frame(BaseModel):
    """One frame from a client."""

    topic: str
    event: str
    payload: Payload = Payload()
    ref: str | None = None
    join_ref: str | None = None

    @classmethod
    def parsed(cls, text: str, *, is_array: bool) -> "Frame":
        """Return the frame in *text*.

        :raises TypeError: it is none
        :raises ValueError: it is none
        """
        if not is_array:
            return cls.model_validate_json(text)
        return cls.model_validate(dict(zip(_ARRAY, orjson.loads(text), strict=True)))
