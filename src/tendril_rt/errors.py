"""The one tree of errors. Each class says whether trying the same again can help.

Third-party exceptions are translated at the boundary only (``control``, ``runner``, ``logs``,
``local``, ``migrate``), always with ``from exc``. Cancellation is never one of these.
"""

from typing import ClassVar


class TendrilError(Exception):
    """Base of everything that this package raises on purpose.

    The message names the thing, the value (never a secret) and the cure.
    """

    retryable: ClassVar[bool] = False
    code: ClassVar[str] = "INTERNAL"


class ConfigError(TendrilError):
    """Settings are missing or illegal; *problems* lists every one of them, not only the first."""

    code = "INVALID_SETTINGS"

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SnapshotError(TendrilError):
    """A provision's ``config_snapshot`` is malformed, or its hash does not match it."""

    code = "INVALID_CONFIG"


class SignatureError(TendrilError):
    """A provision is not signed by a key that this agent trusts, or not as it is now."""

    code = "SIGNATURE_REFUSED"


class ControlPlaneError(TendrilError):
    """The control plane did not do what was asked."""

    code = "CONTROL_PLANE"


class Unavailable(ControlPlaneError):
    """No answer, a 5xx, or an answer that is not ours: the same call may succeed later."""

    retryable = True


class Rejected(ControlPlaneError):
    """The control plane understood and refused; the same call will be refused again."""


class Unauthorized(Rejected):
    """Cluster id or token are wrong (the control plane never says which), or the API key is."""

    code = "UNAUTHORIZED"


class LeaseLost(Rejected):
    """Fenced out: a newer attempt exists. Stop the attempt, report nothing more."""

    code = "LEASE_LOST"


class StepError(TendrilError):
    """A step of an attempt failed; the provision ends FAILED with this message."""

    code = "STEP_FAILED"

    def add(self, advice: str) -> None:
        """Add a line of advice to the message."""
        self.args = (f"{self}\n{advice}",)


class OutOfTime(StepError):
    """The time for the provision as a whole was over before a step began."""

    code = "STEP_TIMEOUT"


class WorkspaceError(StepError):
    """The attempt's private directory could not be made or written."""

    code = "WORKSPACE_FAILED"


class GitError(StepError):
    """The template could not be fetched."""

    code = "TEMPLATE_UNAVAILABLE"


class ProcessLost(StepError):
    """A launched process is gone, and nobody can say how it ended."""

    code = "PROCESS_LOST"


class TerraformError(StepError):
    """Terraform ended with a failure.

    :param step: ``init``, ``plan`` or ``apply``
    :param exit_code: as the process gave it; negative for a signal
    :param duration_s: how long it ran, in seconds
    """

    code = "TERRAFORM_FAILED"

    def __init__(self, step: str, exit_code: int, message: str, *, duration_s: float = 0.0) -> None:
        super().__init__(message)
        self.step = step
        self.exit_code = exit_code
        self.duration_s = duration_s


class StepTimeout(TerraformError):
    """A step was interrupted because it, or the provision as a whole, took longer than it may."""

    code = "STEP_TIMEOUT"


class SpoolError(TendrilError):
    """An attempt's log cannot be kept on disk."""

    code = "SPOOL_FAILED"


class CloudError(TendrilError):
    """The cloud refused something, with its reason and what cures it."""


class CloudUnavailable(CloudError):
    """The cloud did not answer: the same may succeed later."""


class KubernetesError(TendrilError):
    """A cluster's API server, or Helm there, refused something."""


class KubernetesUnavailable(KubernetesError):
    """The API server did not answer, or with a 5xx: the same may succeed later."""


class NeverHeard(TendrilError):
    """An agent was installed and sent no heartbeat in the time that it had."""


class LocalError(TendrilError):
    """The embedded control plane could not start or serve."""

    code = "LOCAL_PLANE"


class MigrationError(TendrilError):
    """A migration could not be applied; the database is as it was before that migration."""

    code = "MIGRATION_FAILED"
