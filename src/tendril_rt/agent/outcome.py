"""From how a run ended to what is said of it: exactly one outcome, or none. Pure."""

from tendril_rt.agent.lease import Interruption
from tendril_rt.errors import (
    LeaseLost,
    ProcessLost,
    SignatureError,
    SnapshotError,
    StepError,
    StepTimeout,
    TendrilError,
    TerraformError,
)
from tendril_rt.model import Outcome, Phase, Status


def outcome_of(
    exc: StepError | SnapshotError | SignatureError,
    *,
    interruption: Interruption | None,
    phase: Phase,
    step: str,
    was_resumed: bool,
) -> Outcome | None:
    """Return what to report of a run that *exc* ended; None if it is not for us to say.

    Who is fenced out in an apply still says what became of it: no other attempt can know, and the
    control plane keeps it beside its verdict (``late_result``).

    :param step: for people, for example ``terraform plan``
    """
    if interruption is Interruption.FENCED_OUT and phase is not Phase.APPLY:
        return None
    if isinstance(exc, ProcessLost) and was_resumed:
        if phase is not Phase.APPLY:
            return None  # it changed nothing: the control plane queues it again
        text = (
            f"the agent was restarted during {step}, and Terraform did not outlive it: the end of "
            "its output may be missing. Look at what it changed before it is submitted again"
            f"\n{exc}"
        )
        return Outcome(Status.FAILED, text, "AGENT_RESTARTED")
    if interruption is None or isinstance(exc, StepTimeout):
        return Outcome(Status.FAILED, str(exc), exc.code)
    if interruption is Interruption.TRUST_ENDED and phase is not Phase.APPLY:
        return None  # not renewed any more, so the control plane gives it to another attempt
    detail = f"\n{exc}" if isinstance(exc, TerraformError | ProcessLost) else ""
    if interruption is Interruption.CANCELLED:
        text = f"cancelled by its owner during {step}{detail}"
        return Outcome(Status.CANCELLED, text, "CANCELLED")
    if interruption is Interruption.SHUTDOWN:
        text = f"the agent was told to stop during {step}: submit it again{detail}"
        return Outcome(Status.FAILED, text, "AGENT_SHUTDOWN")
    if interruption is Interruption.FENCED_OUT:
        text = (
            "the control plane had given this run up after a long silence and gone on without it, "
            f"so it was stopped during {step}. Compare the real state before the next run{detail}"
        )
        return Outcome(Status.FAILED, text, LeaseLost.code)
    text = f"the control plane could not be reached before {step}: submit it again"
    return Outcome(Status.FAILED, text, "CONTROL_PLANE_LOST")


def unexpected(exc: Exception, step: str) -> Outcome:
    """Return what to report of a fault of the agent itself."""
    return Outcome(
        Status.FAILED,
        f"the agent failed during {step}: {type(exc).__name__}: {exc}. This is a "
        "fault of the agent: its own log has the details",
        TendrilError.code,
    )
