"""What is to be bootstrapped, and whom its progress is told. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Narrator(Protocol):
    """Whoever watches."""

    def note(self, text: str) -> None:
        """Tell something that stays."""

    def progress(self, text: str) -> None:
        """Show how far something is, in place of what was shown before; empty: nothing."""


class Confirm(Protocol):
    """Asks whoever watches."""

    async def __call__(self, question: str) -> bool:
        """Return whether they agree.

        :raises ConfigError: nobody can be asked
        """


@dataclass(frozen=True, slots=True)
class Request:
    """One environment to bootstrap.

    :ivar variables: of ``templates/bootstrap``, beside those that the other fields give
    :ivar backend: settings of an S3 backend for the state; empty: a file in *folder*
    :ivar kubeconfig: use this one instead of making one
    :ivar chart_values: of ``charts/tendril``; what bootstrap itself decides comes on top
    :ivar url: control plane, with its public *api_key*
    :ivar folder: journal, state, logs, kubeconfig
    :ivar environ: where programs look for their settings
    :ivar token_command: what prints an ExecCredential; gets cluster and region as arguments
    :ivar heartbeat_s: how long to wait for the agent
    """

    project: str
    environment: str
    region: str
    url: str
    api_key: str = field(repr=False)
    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    token_command: Sequence[str]
    variables: Mapping[str, object] = field(default_factory=dict)
    backend: Mapping[str, str] = field(default_factory=dict)
    kubeconfig: Path | None = None
    chart_values: Mapping[str, object] = field(default_factory=dict)
    profile: str | None = None
    role_arn: str | None = None
    heartbeat_s: float = 600.0

    @property
    def name(self) -> str:
        """The cluster's name, in the cloud and in the control plane."""
        return f"{self.project}-{self.environment}"

    @property
    def namespace(self) -> str:
        """The agent's namespace, which its role's trust policy names."""
        return "tendril"

    @property
    def service_account(self) -> str:
        """The agent's service account, which its role's trust policy names."""
        return "tendril"
