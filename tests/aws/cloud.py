"""moto's server as the tests see it: its address, its clients, state stores in it, what is left."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import boto3
from botocore.client import BaseClient
from botocore.exceptions import ClientError

Json: TypeAlias = dict[str, Any]
LockKind = Literal["dynamodb", "lockfile"]

_STORE_REGION = "us-east-1"
_TABLE = "terraform-locks"


@dataclass(frozen=True)
class Cloud:
    """A running ``tests.aws.moto_cloud``; its account knows any credentials."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What leads Terraform here, and nowhere else whatever the machine is configured for."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",  # moto takes any
            "AWS_SESSION_TOKEN": "",
            "AWS_PROFILE": "",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, service: str, region: str) -> BaseClient:
        """Return a boto3 client of *service*."""
        return boto3.client(
            service,
            region_name=region,
            endpoint_url=self.url,
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def left_of(self, project: str, region: str) -> list[str]:
        """Return the ARNs of what bears the tag Project and is not on its way out.

        A deleted NAT gateway is shown for an hour, a deleted key can be taken back for 30 days, and
        a database's automated backups outlive it because the template says so.
        """
        pages = self.client("resourcegroupstaggingapi", region).get_paginator("get_resources")
        tagged = [
            resource["ResourceARN"]
            for page in pages.paginate(TagFilters=[{"Key": "Project", "Values": [project]}])
            for resource in page["ResourceTagMappingList"]
        ]
        roles = [role["Arn"] for role in self.client("iam", region).list_roles()["Roles"]]
        ours = [arn for arn in roles if f":role/{project}-" in arn]
        return [arn for arn in tagged if not self._is_going(arn, region)] + ours

    def _is_going(self, arn: str, region: str) -> bool:
        service, kind_and_id = arn.split(":")[2], arn.split(":", 5)[5]
        if service == "kms":
            key = self.client("kms", region).describe_key(KeyId=arn)["KeyMetadata"]
            return bool(key["KeyState"] == "PendingDeletion")
        if kind_and_id.startswith("natgateway/"):
            wanted = [kind_and_id.removeprefix("natgateway/")]
            found = self.client("ec2", region).describe_nat_gateways(NatGatewayIds=wanted)
            return [gateway["State"] for gateway in found["NatGateways"]] == ["deleted"]
        return service == "rds" and kind_and_id.startswith("snapshot:rds:")


@contextmanager
def running_cloud(folder: Path) -> Iterator[Cloud]:
    """Run moto's server on a free port until the block ends; its log is *folder*/moto.log."""
    with (folder / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.aws.moto_cloud"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    with process.stdout:
        url = process.stdout.readline().strip()
        assert url, f"moto did not start:\n{(folder / 'moto.log').read_text()}"
        yield Cloud(url)
        process.terminate()
        assert process.wait(20) == 0, (folder / "moto.log").read_text()


@dataclass(frozen=True)
class StateStore:
    """An S3 bucket for Terraform states, with a DynamoDB table for their locks."""

    cloud: Cloud
    bucket: str

    @classmethod
    def made_in(cls, cloud: Cloud, bucket: str) -> "StateStore":
        """Make the bucket, and the table where there is none."""
        cloud.client("s3", _STORE_REGION).create_bucket(Bucket=bucket)
        dynamodb = cloud.client("dynamodb", _STORE_REGION)
        if _TABLE not in dynamodb.list_tables()["TableNames"]:
            dynamodb.create_table(
                TableName=_TABLE,
                KeySchema=[{"AttributeName": "LockID", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "LockID", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )
        return cls(cloud, bucket)

    def backend_config(self, key: str, lock: LockKind) -> dict[str, str]:
        """Return what a snapshot says to keep its state under *key*, locked by *lock*."""
        where = {"bucket": self.bucket, "key": key, "region": _STORE_REGION, "encrypt": "true"}
        how = {"dynamodb": {"dynamodb_table": _TABLE}, "lockfile": {"use_lockfile": "true"}}
        return where | how[lock]

    def state(self, key: str) -> Json | None:
        """Return the parsed state, None where there is none yet."""
        return self._object(key)

    def lock(self, key: str, kind: LockKind) -> Json | None:
        """Return the lock as Terraform wrote it (ID, Operation, Who, …), None where none is."""
        if kind == "lockfile":
            return self._object(f"{key}.tflock")
        item = (
            self.cloud.client("dynamodb", _STORE_REGION)
            .get_item(TableName=_TABLE, Key={"LockID": {"S": f"{self.bucket}/{key}"}})
            .get("Item")
        )
        return None if item is None else _parsed(item["Info"]["S"])

    def _object(self, key: str) -> Json | None:
        try:
            found = self.cloud.client("s3", _STORE_REGION).get_object(Bucket=self.bucket, Key=key)
        except ClientError as exc:
            if exc.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return _parsed(found["Body"].read())


def _parsed(text: bytes | str) -> Json:
    value = json.loads(text)
    assert isinstance(value, dict), text
    return value
