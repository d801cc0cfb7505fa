"""What AWS's refusals in Terraform's words mean."""

import pytest

from tendril_rt.bootstrap import faults
from tendril_rt.errors import TerraformError

_SAID = (
    "Error: creating EC2 VPC: operation error EC2: CreateVpc, StatusCode: 400, "
    "RequestID: 1, api error {code}: {words}"
)


@pytest.mark.parametrize(
    ("code", "cure"),
    [
        ("VpcLimitExceeded", "a quota of the account"),
        ("AddressLimitExceeded", "a quota of the account"),
        ("ResourceLimitExceededException", "a quota of the account"),
        ("ServiceQuotaExceededException", "a quota of the account"),
        ("UnauthorizedOperation", "this identity may not do that"),
        ("AccessDeniedException", "this identity may not do that"),
        ("ExpiredToken", "the credentials have expired"),
        ("ExpiredTokenException", "the credentials have expired"),
        ("InvalidClientTokenId", "AWS does not know these credentials"),
        ("UnsupportedAvailabilityZoneException", "choose another region"),
    ],
)
def test_an_error_code_brings_its_cure(code: str, cure: str) -> None:
    error = TerraformError("apply", 1, _SAID.format(code=code, words="no"))
    faults.explain(error)
    assert cure in str(error)


@pytest.mark.parametrize("code", ["InvalidParameterValue", "DependencyViolation", "Throttling"])
def test_what_has_no_cure_of_ours_stays_as_it_was_said(code: str) -> None:
    said = _SAID.format(code=code, words="no")
    error = TerraformError("apply", 1, said)
    faults.explain(error)
    assert str(error) == str(TerraformError("apply", 1, said))


def test_terraform_without_credentials_is_understood_too() -> None:
    error = TerraformError("plan", 1, "Error: No valid credential sources found")
    faults.explain(error)
    assert "AWS knows nobody here" in str(error)
