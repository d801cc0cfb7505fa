"""The steps of a bootstrap in their order, as a plain list; to carry out, to print, or to undo.

Each step looks before it makes; what it found or made is on the :class:`Site` for those after it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tendril_rt.bootstrap import chart, handover, kubeconfig
from tendril_rt.bootstrap.cloud import Aws, Identity
from tendril_rt.bootstrap.infrastructure import Infrastructure
from tendril_rt.bootstrap.journal import Journal
from tendril_rt.bootstrap.kubernetes import Kubernetes, connected
from tendril_rt.bootstrap.plan import Confirm, Narrator, Request
from tendril_rt.bootstrap.registration import Credentials, Registration
from tendril_rt.control.owner import Owner
from tendril_rt.errors import ConfigError, KubernetesUnavailable, TendrilError
from tendril_rt.model import ClusterId

Found = TypeVar("Found")

_MANAGED = {"app.kubernetes.io/managed-by": "grape"}


@dataclass
class Site:
    """What a bootstrap works with, and what its steps have found so far.

    :ivar holding: closes what steps opened
    """

    request: Request
    owner: Owner
    journal: Journal
    narrator: Narrator
    confirm: Confirm
    holding: AsyncExitStack
    identity: Identity | None = None
    outputs: Mapping[str, object] = field(default_factory=dict)
    cluster_id: ClusterId | None = None
    credentials: Credentials | None = None
    agent_id: str | None = None
    _kubernetes: Kubernetes | None = None

    def __post_init__(self) -> None:
        request = self.request
        self.aws = Aws(request.region, request.profile, request.role_arn)
        self.infrastructure = Infrastructure(request, self.aws, self.narrator, self.confirm)
        self.registration = Registration(request, self.owner, self.journal)

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig to use: the one given, or the one that is made."""
        return self.request.kubeconfig or self.request.folder / "kubeconfig"

    async def kubernetes(self) -> Kubernetes:
        """Return the session with the cluster's API.

        :raises ConfigError: the kubeconfig cannot be used
        """
        if self._kubernetes is None:
            access = kubeconfig.read(self.kubeconfig, self.request.environ)
            self._kubernetes = await self.holding.enter_async_context(connected(access))
        return self._kubernetes


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    :ivar says: what it makes sure of, for people; of a request
    :ivar run: does it; returns what to tell of it
    """

    name: str
    says: Callable[[Request], str]
    run: Callable[[Site], Awaitable[str]]


async def _identify(site: Site) -> str:
    site.identity = identity = await site.aws.identity()
    known = site.journal.fact("account")
    if known not in (None, identity.account):
        raise ConfigError(
            f"this bootstrap was begun in account {known}, and AWS now takes you for "
            f"{identity.arn}: choose the profile or role of that account, or another --environment"
        )
    where = site.journal.fact("region")
    if where not in (None, site.request.region):
        raise ConfigError(f"this bootstrap was begun in {where}: name that --region")
    site.journal.note(account=identity.account, region=site.request.region)
    return f"{identity.arn} in account {identity.account}"


async def _build(site: Site) -> str:
    site.outputs, has_changed = await site.infrastructure.make()
    name, version = site.outputs.get("cluster_name"), site.outputs.get("cluster_version")
    return f"EKS {name}, Kubernetes {version}" + ("" if has_changed else ", nothing to change")


async def _register(site: Site) -> str:
    site.cluster_id, is_new = await site.registration.register()
    return f"cluster {site.cluster_id}, {'registered' if is_new else 'registered before'}"


async def _configure_access(site: Site) -> str:
    request, outputs = site.request, site.outputs
    if request.kubeconfig is None:
        cluster = str(outputs["cluster_name"])
        names = ("AWS_ENDPOINT_URL", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
        kubeconfig.write(
            site.kubeconfig,
            name=cluster,
            server=str(outputs["cluster_endpoint"]),
            certificate_authority=str(outputs["cluster_certificate_authority"]),
            token_command=[*request.token_command, "--cluster", cluster, *_identity_of(request)],
            environ={name: request.environ[name] for name in names if name in request.environ},
        )
    try:
        version = await (await site.kubernetes()).version()
    except KubernetesUnavailable as exc:
        if outputs.get("cluster_endpoint_is_public") is False:
            raise KubernetesUnavailable(
                f"{exc}\nThe API is private to its VPC. Run this from inside, or let your address "
                "in: --api-access <address>/32"
            ) from exc
        raise
    return f"{site.kubeconfig}, Kubernetes {version}"


async def _make_namespace(site: Site) -> str:
    kubernetes, name = await site.kubernetes(), site.request.namespace
    if await kubernetes.find(f"/api/v1/namespaces/{name}") is not None:
        return f"{name}, there already"
    metadata = {"name": name, "labels": _MANAGED}
    await kubernetes.create(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    )
    return f"{name}, made"


async def _store_token(site: Site) -> str:
    site.credentials = await site.registration.store_token(
        await site.kubernetes(), _known(site.cluster_id)
    )
    how = "a new token" if site.credentials.is_new else "the token that is there"
    return f"{how}, installation {site.credentials.install_id}"


async def _install(site: Site) -> str:
    role = site.outputs.get("agent_role_arn")
    values = chart.values_of(
        site.request, _known(site.credentials), str(role) if role is not None else None
    )
    is_new = await chart.ensure(chart.find(site.request, site.kubeconfig), values)
    return f"release {chart.RELEASE}, {'installed' if is_new else 'as it should be'}"


async def _hand_over(site: Site) -> str:
    site.agent_id = await handover.wait(
        site.request,
        site.owner,
        await site.kubernetes(),
        _known(site.credentials),
        site.narrator,
    )
    return f"ONLINE, by agent {site.agent_id}"


def _known(found: Found | None) -> Found:
    assert found is not None  # noqa: S101 - an earlier step of the list found it
    return found


def _infrastructure_of(request: Request) -> str:
    vpc_id = request.variables.get("vpc_id")
    network = f"in {vpc_id}" if vpc_id else "a VPC with private and public subnets and one NAT"
    where = f"S3 bucket {request.backend.get('bucket')}" if request.backend else request.folder
    return (
        f"apply templates/bootstrap in {request.region}: "
        f"{network}, an EKS cluster {request.name} with a node group, an IAM OIDC provider, the "
        f"agent's role; state in {where}"
    )


STEPS: Sequence[Step] = (
    Step("identity", lambda r: f"ask AWS STS who we are in {r.region}", _identify),
    Step("infrastructure", _infrastructure_of, _build),
    Step(
        "kubeconfig",
        lambda r: (
            (f"use {r.kubeconfig}" if r.kubeconfig else f"write {r.folder / 'kubeconfig'} (0600)")
            + ", and ask the cluster's API for its version"
        ),
        _configure_access,
    ),
    Step("namespace", lambda r: f"make namespace {r.namespace}", _make_namespace),
    Step("cluster", lambda r: f"register cluster {r.name} in the control plane {r.url}", _register),
    Step(
        "token",
        lambda r: f"put a token into a Secret in {r.namespace}, through the API",
        _store_token,
    ),
    Step("chart", lambda r: f"install charts/tendril as release {chart.RELEASE}", _install),
    Step(
        "heartbeat",
        lambda r: f"wait up to {r.heartbeat_s:g} s for the agent's first heartbeat",
        _hand_over,
    ),
)


async def carry_out(site: Site, steps: Sequence[Step]) -> None:
    """Do one step after the other, noted in the journal; what fails ends it.

    Cancellation: between and within steps; the next run goes on.
    """
    for number, step in enumerate(steps, 1):
        site.journal.step(step.name, "begun")
        site.narrator.progress(f"{number}/{len(steps)} {step.name}: {step.says(site.request)} …")
        try:
            told = await step.run(site)
        except TendrilError:
            site.journal.step(step.name, "failed")
            raise
        site.journal.step(step.name, "done")
        site.narrator.note(f"{number}/{len(steps)} {step.name}: {told}")


def actions(request: Request, steps: Sequence[Step]) -> list[dict[str, str]]:
    """Return what :func:`carry_out` would do; pure."""
    return [{"step": step.name, "action": step.says(request)} for step in steps]


async def _uninstall(site: Site) -> str:
    if not site.kubeconfig.exists():
        return "there is no kubeconfig: nothing was installed"
    try:
        kubernetes = await site.kubernetes()
        await kubernetes.version()
    except KubernetesUnavailable as exc:
        return f"skipped, the cluster does not answer and goes anyway: {exc}"
    await chart.find(site.request, site.kubeconfig).remove()
    await kubernetes.remove(f"/api/v1/namespaces/{site.request.namespace}")
    return "the agent drains and goes, with its namespace"


async def _revoke(site: Site) -> str:
    known = site.journal.fact("cluster_id")
    if known is None:
        return "no cluster was registered"
    return f"{await site.registration.revoke(ClusterId(known))} revoked"


async def _destroy(site: Site) -> str:
    await site.infrastructure.destroy()
    site.journal.forget(but=("cluster_id",))  # which is there again when it is bootstrapped again
    return "destroyed; the control plane keeps the cluster's history"


UNDO: Sequence[Step] = (
    STEPS[0],
    Step("chart", lambda r: f"uninstall {chart.RELEASE}, remove {r.namespace}", _uninstall),
    Step("tokens", lambda r: f"revoke every token of cluster {r.name}", _revoke),
    Step("infrastructure", lambda r: f"terraform destroy in {r.region}", _destroy),
)


def _identity_of(request: Request) -> list[str]:
    profile = ["--profile", request.profile] if request.profile else []
    role = ["--role-arn", request.role_arn] if request.role_arn else []
    return ["--region", request.region, *profile, *role]
