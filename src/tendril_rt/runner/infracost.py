"""What a run would cost: one call of Infracost, whose failure never fails a run.

It reads the template itself, so no plan with secrets in clear is made for it. Its key
(``INFRACOST_*``) reaches it alone, never Terraform.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from tendril_rt.errors import StepError
from tendril_rt.runner import process

TIMEOUT_S = 60.0
#: Names of the agent's environment that Infracost sees beside what every child sees.
ENVIRONMENT = ("INFRACOST_*",)
_ANSWER_LIMIT_BYTES = 32 * 1024 * 1024
_AMOUNTS = {
    "total_monthly": "totalMonthlyCost",
    "diff_monthly": "diffTotalMonthlyCost",
    "past_monthly": "pastTotalMonthlyCost",
    "total_hourly": "totalHourlyCost",
}
_AMOUNT = re.compile(r"-?\d{1,30}(?:\.\d{1,30})?")


class CostUnknown(StepError):
    """No estimate, and why; a run goes on without it."""


async def estimate(
    root_module: Path,
    *,
    variables: Path,
    answer: Path,
    env: Mapping[str, str],
    timeout_s: float = TIMEOUT_S,
) -> Mapping[str, object]:
    """Return the monthly cost of *root_module*: ``currency`` and amounts, as decimal text.

    Cancellation: safe; it is killed.

    :param variables: a file of variables, in *root_module*
    :param answer: where Infracost is to leave its answer
    :raises CostUnknown: it is not installed, failed, took too long, or answered something else
    """
    program = shutil.which("infracost", path=env.get("PATH"))
    if program is None:
        raise CostUnknown("infracost is not on the agent's PATH")
    argv = [program, "breakdown", "--path", str(root_module), "--format", "json", "--no-color"]
    more = ["--terraform-var-file", variables.name, "--out-file", str(answer)]
    try:
        code, stdout, stderr = await process.capture(
            [*argv, *more],
            cwd=root_module,
            env={**env, "INFRACOST_SKIP_UPDATE_CHECK": "true"},
            timeout_s=timeout_s,
        )
    except StepError as exc:
        raise CostUnknown(str(exc)) from exc
    if code != 0:
        said = (stderr.strip() or stdout.strip())[-300:]
        raise CostUnknown(f"infracost ended with {code}: {said}")
    return parse(_read(answer))


def parse(text: str) -> Mapping[str, object]:
    """Read Infracost's JSON.

    :raises CostUnknown: it is something else
    """
    try:
        said = json.loads(text)
        amounts = {ours: str(said[theirs]) for ours, theirs in _AMOUNTS.items() if said.get(theirs)}
        currency = str(said.get("currency") or "USD")[:8]
    except (ValueError, AttributeError, RecursionError) as exc:
        raise CostUnknown(f"infracost's answer is not its JSON: {exc}") from exc
    odd = [amount for amount in amounts.values() if not _AMOUNT.fullmatch(amount)]
    if odd or "total_monthly" not in amounts:
        raise CostUnknown("infracost's answer holds no totalMonthlyCost")
    return {"currency": currency, **amounts}


def _read(answer: Path) -> str:
    try:
        with os.fdopen(os.open(answer, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            return file.read(_ANSWER_LIMIT_BYTES).decode(errors="replace")
    except OSError as exc:
        raise CostUnknown(f"infracost left no answer: {exc.strerror or exc}") from exc
