"""What clients send, read and checked: frames of Phoenix vsn 1.0.0, and what a join asks for.

Pure. Whatever a client adds is let pass; what it must not leave out, or what the embedded control
plane does not offer, is refused by name.
"""

import zlib

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tendril_rt.errors import TendrilError
from tendril_rt.local.gateway.subscriptions import SubscriptionRefused, Target, parse_filters


class Binding(BaseModel):
    """One entry of ``postgres_changes`` in a join."""

    model_config = ConfigDict(extra="allow")

    event: str = "*"
    in_schema: str = Field("public", alias="schema")
    table: str = "*"
    filter: str = ""
    select: list[str] | None = None

    @property
    def id(self) -> int:
        """What its events carry: the same for the same entry, whatever joins and tokens come."""
        return 1 + zlib.crc32(orjson.dumps(self.as_sent(), option=orjson.OPT_SORT_KEYS))

    def as_sent(self) -> dict[str, object]:
        """Return the entry as the client wrote it."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def target(self) -> Target:
        """Return what is asked for.

        :raises SubscriptionRefused: it is not understood, or not offered
        """
        if self.select:
            raise SubscriptionRefused("`select` is not offered by the embedded control plane")
        event = self.event.upper()
        return Target(
            event=event if event in ("INSERT", "UPDATE", "DELETE") else "*",
            schema=self.in_schema,
            table=self.table,
            filters=parse_filters(self.filter),
        )


class _Broadcast(BaseModel):
    replay: object = None
    replication_ready: bool = False


class _Presence(BaseModel):
    enabled: bool = False


class _Config(BaseModel):
    broadcast: _Broadcast | None = None
    presence: _Presence | None = None
    private: bool = False
    postgres_changes: list[Binding] = []

    def beyond_offer(self) -> str | None:
        """Return the first thing asked for that the embedded control plane has not."""
        if self.private:
            return "a private channel"
        if self.presence and self.presence.enabled:
            return "presence"
        if self.broadcast and (self.broadcast.replay or self.broadcast.replication_ready):
            return "broadcast from the database"
        return None


class Join(BaseModel):
    """The payload of ``phx_join``."""

    config: _Config = _Config()
    access_token: str | None = None


class Frame(BaseModel):
    """One message of a client."""

    topic: str
    event: str
    payload: dict[str, object] = {}
    ref: str | None = None
    join_ref: str | None = None


class JoinRefused(TendrilError):
    """A join cannot be; ``str()`` is the reason for the client."""

    code = "JOIN_REFUSED"


def checked(frame: Frame) -> Join:
    """Return what *frame* asks for.

    :raises JoinRefused: it is not understood, or more than is offered
    """
    if frame.topic == "realtime:":
        raise JoinRefused("TopicNameRequired: You must provide a topic name")
    try:
        join = Join.model_validate(frame.payload)
    except ValidationError as exc:
        raise JoinRefused(f"InvalidJoinPayload: {exc.errors()[0]['msg']}") from exc
    if (feature := join.config.beyond_offer()) is not None:
        raise JoinRefused(not_offered(feature))
    return join


def not_offered(feature: str) -> str:
    """Return the reason for a refusal."""
    return f"NotOffered: {feature} is not offered by the embedded control plane"
