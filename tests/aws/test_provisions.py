"""The templates from a row in ``provisions`` to a cloud and back, by a real agent and provider.

Each test has a region and a project of its own in the one account.
"""

import re

import pytest

from tendril_rt.control.owner import Owner, ProvisionState
from tendril_rt.model import Operation, ProvisionId, Status, StreamType
from tests.integration.agents import Fleet, ended, log_text, snapshot

from .cloud import Cloud, Json, StateStore

pytestmark = [
    pytest.mark.aws,
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.usefixtures("aws_provider"),
]

#: RDS alone is asked every 30 s until it is there.
_PATIENCE_S = 600.0

#: What moto 5.2 forgets, so that a second plan would set it again; docs/templates.md says more.
_FORGOTTEN_BY_MOTO = {
    "module.database[0].aws_db_parameter_group.this",  # parameters
    'module.database[0].aws_vpc_security_group_ingress_rule.client["nodes of shop-dev"]',  # text
}


def _of(repo: str, path: str, **changes: object) -> dict[str, object]:
    return snapshot(repo, template_source={"repo": repo, "version": "v1", "path": path}, **changes)


async def _run(
    fleet: Fleet, user: Owner, configuration: dict[str, object], operation: Operation
) -> tuple[ProvisionId, ProvisionState]:
    provision_id = await user.create_provision(
        fleet.cluster.cluster_id, configuration, operation=operation
    )
    return provision_id, await ended(user, provision_id, within_s=_PATIENCE_S)


async def _done(
    fleet: Fleet, user: Owner, configuration: dict[str, object], operation: Operation
) -> str:
    """Run to SUCCESS; return what Terraform printed."""
    provision_id, state = await _run(fleet, user, configuration, operation)
    assert state.status is Status.SUCCESS, state.error_message
    return await log_text(user, provision_id, StreamType.STDOUT)


def _changed(planned: str) -> set[str]:
    """Return the addresses that a printed plan would touch."""
    return set(re.findall(r"^  # (.+?) (?:will be|must be) ", planned, re.MULTILINE))


def _nodes_launch_template(cloud: Cloud, region: str, cluster: str) -> Json:
    eks, ec2 = cloud.client("eks", region), cloud.client("ec2", region)
    (name,) = eks.list_nodegroups(clusterName=cluster)["nodegroups"]
    group = eks.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"]
    (version,) = ec2.describe_launch_template_versions(
        LaunchTemplateId=group["launchTemplate"]["id"],
        Versions=[group["launchTemplate"]["version"]],
    )["LaunchTemplateVersions"]
    data: Json = version["LaunchTemplateData"]
    return data


async def test_bootstrap_makes_a_home_for_the_agent_and_takes_it_away(
    fleet: Fleet, user: Owner, repo: str, cloud: Cloud
) -> None:
    region, name = "eu-central-1", "first-bootstrap"
    configuration = _of(
        repo, "bootstrap", terraform_vars={"project_name": "first", "region": region}
    )
    with fleet.agent(**cloud.environment):
        applied = await _done(fleet, user, configuration, Operation.APPLY)
        cluster = cloud.client("eks", region).describe_cluster(name=name)["cluster"]
        template = _nodes_launch_template(cloud, region, name)
        role = _agent_role(cloud, region)
        planned = await _done(fleet, user, configuration, Operation.PLAN)
        await _done(fleet, user, configuration, Operation.DESTROY)

    assert re.search(r'^cluster_name += "first-bootstrap"$', applied, re.MULTILINE)
    assert cluster["resourcesVpcConfig"]["endpointPrivateAccess"] is True
    assert cluster["resourcesVpcConfig"]["endpointPublicAccess"] is False
    assert cluster["encryptionConfig"][0]["resources"] == ["secrets"]
    assert template["MetadataOptions"]["HttpTokens"] == "required"
    issuer = cluster["identity"]["oidc"]["issuer"].removeprefix("https://")
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"]["Federated"].endswith(f"oidc-provider/{issuer}")
    assert statement["Condition"]["StringEquals"] == {
        f"{issuer}:sub": "system:serviceaccount:tendril:tendril",
        f"{issuer}:aud": "sts.amazonaws.com",
    }
    assert "No changes." in planned
    assert cloud.left_of("first", region) == []


def _agent_role(cloud: Cloud, region: str) -> Json:
    roles: list[Json] = cloud.client("iam", region).list_roles()["Roles"]
    (role,) = (role for role in roles if role["RoleName"].startswith("first-bootstrap-agent-"))
    return role


async def test_bootstrap_goes_into_a_given_vpc(
    fleet: Fleet, user: Owner, repo: str, cloud: Cloud
) -> None:
    region = "eu-north-1"
    ec2 = cloud.client("ec2", region)
    vpc_id = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc_id, CidrBlock=f"10.1.{n}.0/24", AvailabilityZone=region + zone)
        for n, zone in enumerate("ab")
    ]
    variables = {
        "project_name": "given",
        "region": region,
        "vpc_id": vpc_id,
        "private_subnet_ids": [subnet["Subnet"]["SubnetId"] for subnet in subnets],
    }
    elsewhere = {**variables, "vpc_id": "vpc-0123456789abcdef0"}
    with fleet.agent(**cloud.environment):
        planned = await _done(
            fleet, user, _of(repo, "bootstrap", terraform_vars=variables), Operation.PLAN
        )
        _, refused = await _run(
            fleet, user, _of(repo, "bootstrap", terraform_vars=elsewhere), Operation.PLAN
        )

    assert "module.cluster.aws_eks_cluster.this" in _changed(planned)
    assert "module.network" not in planned
    assert (refused.status, refused.error_code) == (Status.FAILED, "TERRAFORM_FAILED")
    assert refused.error_message is not None
    # Terraform breaks long lines.
    assert f"is in {vpc_id}, which is not vpc_id" in " ".join(refused.error_message.split())


async def test_standard_comes_whole_and_goes_whole(
    fleet: Fleet, user: Owner, repo: str, store: StateStore
) -> None:
    cloud, region, name, key = store.cloud, "eu-west-1", "shop-dev", "shop/dev.tfstate"
    configuration = _of(
        repo,
        "standard",
        terraform_vars={
            "project_name": "shop",
            "region": region,
            "service_account_roles": {
                "backup": {"namespace": "ops", "service_account": "backup", "policy_arns": []}
            },
            # So that DESTROY can take it away, and leaves nothing.
            "database_deletion_protection": False,
            "database_skip_final_snapshot": True,
        },
        backend_config=store.backend_config(key, "dynamodb"),
    )
    with fleet.agent(**cloud.environment):
        applied = await _done(fleet, user, configuration, Operation.APPLY)
        kept = _resources(store, key)
        (database,) = cloud.client("rds", region).describe_db_instances()["DBInstances"]
        cluster = cloud.client("eks", region).describe_cluster(name=name)["cluster"]
        template = _nodes_launch_template(cloud, region, name)
        planned = await _done(fleet, user, configuration, Operation.PLAN)
        await _done(fleet, user, configuration, Operation.DESTROY)

    assert kept != []
    assert "database_master_secret_arn = <sensitive>" in applied
    assert (database["PubliclyAccessible"], database["StorageEncrypted"]) == (False, True)
    assert "MasterUserSecret" in database
    assert cluster["resourcesVpcConfig"]["endpointPublicAccess"] is False
    assert template["MetadataOptions"]["HttpTokens"] == "required"
    assert _changed(planned) == _FORGOTTEN_BY_MOTO
    assert _resources(store, key) == []
    assert store.lock(key, "dynamodb") is None
    assert cloud.left_of("shop", region) == []


def _resources(store: StateStore, key: str) -> list[Json]:
    state = store.state(key)
    assert state is not None, f"nothing is stored under {key}"
    resources: list[Json] = state["resources"]
    return resources


async def test_standard_without_a_place_for_its_state_is_refused(
    fleet: Fleet, user: Owner, repo: str, cloud: Cloud
) -> None:
    configuration = _of(
        repo, "standard", terraform_vars={"project_name": "lost", "region": "eu-west-2"}
    )
    with fleet.agent(**cloud.environment):
        provision_id, state = await _run(fleet, user, configuration, Operation.APPLY)

    assert (state.status, state.error_code) == (Status.FAILED, "TERRAFORM_FAILED")
    assert state.error_message is not None
    assert 'backend "s3" {}' in state.error_message
    assert 'The attribute "bucket" is required' in await log_text(
        user, provision_id, StreamType.STDERR
    )
