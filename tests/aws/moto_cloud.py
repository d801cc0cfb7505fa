"""moto's server as a process of its own, taught what AWS does and the provider relies on.

Run as ``python -m tests.aws.moto_cloud``: listens on a free loopback port and prints its URL. Each
difference between moto 5.2 and AWS that would make Terraform see a change, or miss a resource, is
mended in a function of its own that says what AWS does; ``docs/templates.md`` lists them.
"""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

# Before moto is imported: IAM's managed policies exist, as they do in every account.
os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.eks.models import Cluster, EKSBackend
from moto.eks.responses import EKSResponse
from moto.moto_api._internal import mock_random
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

EksCall: TypeAlias = Callable[[EKSResponse], ActionResult]
Ec2Call: TypeAlias = Callable[[LaunchTemplates], ActionResult]
Deletion: TypeAlias = Callable[[EKSBackend, str], Cluster]


def _clusters_have_what_eks_gives_them(create: EksCall) -> EksCall:
    """EKS makes a security group and an issuer for each cluster, and keeps what was asked for."""

    def create_cluster(self: EKSResponse) -> ActionResult:
        answer = create(self)
        cluster: Any = self.eks_backend.clusters[self._get_param("name")]
        ec2 = ec2_backends[self.current_account][self.region]
        vpc_id = ec2.get_subnet(cluster.resources_vpc_config["subnetIds"][0]).vpc_id
        group = ec2.create_security_group(
            f"eks-cluster-sg-{cluster.name}", "made by EKS", vpc_id=vpc_id
        )
        cluster.resources_vpc_config |= {"vpcId": vpc_id, "clusterSecurityGroupId": group.id}
        number = mock_random.get_random_hex(32).upper()
        issuer = f"https://oidc.eks.{self.region}.amazonaws.com/id/{number}"
        cluster.identity = {"oidc": {"issuer": issuer}}
        cluster.access_config = self._get_param("accessConfig")
        cluster.upgrade_policy = self._get_param("upgradePolicy")
        return answer

    return create_cluster


def _clusters_take_their_group_with_them(delete: Deletion) -> Deletion:
    """EKS deletes the security group that it made."""

    def delete_cluster(self: EKSBackend, name: str) -> Cluster:
        cluster = delete(self, name)
        group_id = cluster.resources_vpc_config["clusterSecurityGroupId"]
        ec2_backends[self.account_id][self.region_name].delete_security_group(group_id=group_id)
        return cluster

    return delete_cluster


def _nodes_keep_what_was_asked_for(create: EksCall) -> EksCall:
    """moto forgets ``updateConfig`` and makes up an SSH key."""

    def create_nodegroup(self: EKSResponse) -> ActionResult:
        answer = create(self)
        cluster = self.eks_backend.clusters[self._get_param("name")]
        group: Any = cluster.nodegroups[self._get_param("nodegroupName")]
        group.remote_access = self._get_param("remoteAccess")
        group.update_config = self._get_param("updateConfig")
        return answer

    return create_nodegroup


def _templates_keep_their_own_tags(create: Ec2Call) -> Ec2Call:
    """moto adds a launch template's own tags to those of what is launched from it."""

    def create_launch_template(self: LaunchTemplates) -> ActionResult:
        answer = create(self)
        template = self.ec2_backend.get_launch_template_by_name(
            self._get_param("LaunchTemplateName")
        )
        data = template.default_version().data
        data["TagSpecifications"] = [
            tags for tags in data["TagSpecifications"] if tags["ResourceType"] != "launch-template"
        ]
        return answer

    return create_launch_template


def main() -> None:
    """Serve until SIGTERM."""
    patches: tuple[tuple[Any, str, Callable[[Any], Any]], ...] = (
        (EKSResponse, "create_cluster", _clusters_have_what_eks_gives_them),
        (EKSBackend, "delete_cluster", _clusters_take_their_group_with_them),
        (EKSResponse, "create_nodegroup", _nodes_keep_what_was_asked_for),
        (LaunchTemplates, "create_launch_template", _templates_keep_their_own_tags),
    )
    for owner, name, mend in patches:
        setattr(owner, name, mend(getattr(owner, name)))

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    ended.wait()
    server.stop()


if __name__ == "__main__":
    main()
