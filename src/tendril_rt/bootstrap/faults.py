"""What AWS's refusals mean, and what cures them: of botocore, and in what Terraform says.

No message holds credentials: AWS's own words do not, and nothing else is quoted.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tendril_rt.errors import CloudError, CloudUnavailable, ConfigError, TerraformError

_NO_CREDENTIALS = (
    "AWS knows nobody here: set AWS_PROFILE, sign in (aws sso login), or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY"
)
#: How AWS's error codes look, and what to do. The first that is found counts.
_CURES = {
    (r"\w*LimitExceeded\w*|ServiceQuotaExceeded\w*|\w*QuotaExceeded\w*|TooMany(?!Requests)\w+"): (
        "a quota of the account is used up: ask for more in the console (Service Quotas) or by "
        "'aws service-quotas request-service-quota-increase', or remove what is not needed; then "
        "run the same command again, it goes on from here"
    ),
    (r"ExpiredToken\w*|RequestExpired|TokenRefreshRequired"): (
        "the credentials have expired: sign in again (aws sso login), then run the same command "
        "again, it goes on from here"
    ),
    (
        r"InvalidClientTokenId|UnrecognizedClientException|SignatureDoesNotMatch|AuthFailure"
        r"|InvalidAccessKeyId"
    ): (
        "AWS does not know these credentials: are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of "
        "the same key, and is the clock right?"
    ),
    (r"AccessDenied\w*|UnauthorizedOperation|NotAuthorized\w*|AuthorizationError"): (
        "this identity may not do that: docs/bootstrap.md lists the rights that a bootstrap needs"
    ),
    (
        r"OptInRequired|SubscriptionRequired\w*|UnsupportedOperation|UnsupportedAvailabilityZone\w*"
    ): (
        "the account or the zone does not offer that: choose another region, or other zones with "
        "subnets of your own"
    ),
}


@contextmanager
def translated() -> Iterator[None]:
    """Raise botocore's errors in the block as ours.

    :raises ConfigError: there are no credentials, or no such profile
    :raises CloudError: AWS refused
    :raises CloudUnavailable: AWS did not answer
    """
    from botocore import exceptions as aws

    try:
        yield
    except (aws.NoCredentialsError, aws.PartialCredentialsError) as exc:
        raise ConfigError(_NO_CREDENTIALS) from exc
    except aws.ProfileNotFound as exc:
        raise ConfigError(f"{exc}: aws configure list-profiles names those that there are") from exc
    except aws.ClientError as exc:
        code = str(exc.response.get("Error", {}).get("Code", ""))
        message = str(exc.response.get("Error", {}).get("Message", ""))
        raise CloudError(
            _with_cure(f"AWS refused {exc.operation_name} ({code}): {message}", code)
        ) from exc
    except (aws.HTTPClientError, aws.ConnectionError) as exc:
        raise CloudUnavailable(f"AWS cannot be reached: {exc}") from exc
    except aws.BotoCoreError as exc:  # expired SSO sessions, tokens that cannot be read, …
        raise ConfigError(f"{exc}: sign in again (aws sso login), or look at the profile") from exc


def explain(error: TerraformError) -> None:
    """Add to what Terraform said what cures it, where AWS's error code tells."""
    said = str(error)
    cure = _cure(said)
    if "No valid credential sources found" in said or "failed to refresh cached cred" in said:
        cure = _NO_CREDENTIALS
    if cure is not None:
        error.add(cure)


def _with_cure(message: str, code: str) -> str:
    cure = _cure(code)
    return message if cure is None else f"{message}\n{cure}"


def _cure(text: str) -> str | None:
    for pattern, cure in _CURES.items():
        if re.search(rf"\b(?:{pattern})\b", text):
            return cure
    return None
