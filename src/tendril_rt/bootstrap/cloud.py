"""AWS as far as a bootstrap speaks to it itself: who we are, and tokens for the cluster's API.

Over botocore, which knows every way in which people keep credentials (profiles, SSO, web identity,
instance roles). Imported only here, where it is needed, since it takes half a second. What cannot
be done is said with its cure; credentials are in no message.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from tendril_rt.bootstrap import faults
from tendril_rt.errors import TendrilError

if TYPE_CHECKING:
    from botocore.session import Session

_SESSION_NAME = "grape-bootstrap"
_TOKEN_PREFIX = "k8s-aws-v1."  # noqa: S105 - of every token for EKS
_TOKEN_S = 60  # that its signature holds; EKS takes the token for 15 min
_TOKEN_LIFE_S = 14 * 60


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom AWS takes us for."""

    account: str
    arn: str


@dataclass(frozen=True, slots=True)
class Aws:
    """One identity in one region.

    :ivar profile: of AWS's configuration files; None: what the environment says
    :ivar role_arn: assumed on top, such as a role of another account
    """

    region: str
    profile: str | None = None
    role_arn: str | None = None

    async def identity(self) -> Identity:
        """Ask AWS who we are.

        :raises ConfigError: there are no credentials, or no such profile
        :raises CloudError: AWS refuses them, or the role
        """
        return await anyio.to_thread.run_sync(self._identity, abandon_on_cancel=True)

    async def environment(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return *environ* such that Terraform is who we are; a role's credentials last an hour.

        :raises ConfigError: see :meth:`identity`
        :raises CloudError: see :meth:`identity`
        """
        region = {"AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region}
        if self.role_arn is None:
            chosen = {"AWS_PROFILE": self.profile} if self.profile else {}
            return {**environ, **region, **chosen}
        keys = await anyio.to_thread.run_sync(self._role_keys, abandon_on_cancel=True)
        kept = {name: value for name, value in environ.items() if name != "AWS_PROFILE"}
        return {**kept, **region, **keys}

    def cluster_token(self, cluster: str) -> tuple[str, datetime]:
        """Return a bearer token for the API of an EKS cluster, and until when it is good; blocks.

        It is a signed question to STS, which EKS asks in our name:
        https://docs.aws.amazon.com/eks/latest/userguide/cluster-auth.html

        :raises ConfigError: see :meth:`identity`
        :raises CloudError: see :meth:`identity`
        """
        with faults.translated():
            from botocore.signers import RequestSigner

            session = self._session()
            sts = session.create_client("sts", region_name=self.region)
            signer = RequestSigner(
                sts.meta.service_model.service_id,
                self.region,
                "sts",
                "v4",
                session.get_credentials(),
                session.get_component("event_emitter"),
            )
            request: dict[str, Any] = {
                "method": "GET",
                "url": f"{sts.meta.endpoint_url}/?Action=GetCallerIdentity&Version=2011-06-15",
                "body": {},
                "headers": {"x-k8s-aws-id": cluster},
                "context": {},
            }
            url = signer.generate_presigned_url(
                request, region_name=self.region, expires_in=_TOKEN_S, operation_name=""
            )
        encoded = base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
        return _TOKEN_PREFIX + encoded, datetime.now(UTC) + timedelta(seconds=_TOKEN_LIFE_S)

    def _identity(self) -> Identity:
        with faults.translated():
            sts = self._session().create_client("sts", region_name=self.region)
            answer = sts.get_caller_identity()
            return Identity(str(answer["Account"]), str(answer["Arn"]))

    def _role_keys(self) -> dict[str, str]:
        with faults.translated():
            return _variables(self._assumed(_session(self.profile)))

    def _session(self) -> "Session":
        session = _session(self.profile)
        if self.role_arn is None:
            return session
        keys = self._assumed(session)
        assumed = _session(None)
        assumed.set_credentials(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])
        return assumed

    def _assumed(self, session: "Session") -> Mapping[str, str]:
        sts = session.create_client("sts", region_name=self.region)
        answer = sts.assume_role(RoleArn=self.role_arn, RoleSessionName=_SESSION_NAME)
        keys: Mapping[str, str] = answer["Credentials"]
        return keys


def _variables(keys: Mapping[str, str]) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
        "AWS_SESSION_TOKEN": keys["SessionToken"],
    }


def _session(profile: str | None) -> "Session":
    try:
        from botocore.session import Session
    except ImportError as exc:
        raise TendrilError(
            f"a bootstrap needs one more package ({exc.name}): pip install 'tendril-rt[grape]'"
        ) from exc
    return Session(profile=profile)
