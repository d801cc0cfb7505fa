"""The page on installing: its values are taken, its names are those that the chart gives."""

import json
import re

import pytest
import yaml

from tendril_rt.model import ENDING
from tests.chart.chart_values import MARGIN_S, ROOT, default_at, leaves, schema
from tests.chart.rendering import chart, of_kind, render, workload

PAGE = (ROOT / "docs" / "install-kubernetes.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda text: text.partition("\n")[0])
def test_values_of_the_page_are_taken(block: str) -> None:
    assert workload(render(yaml.safe_load(block)))


def test_values_of_the_page_that_are_named_in_its_text_exist() -> None:
    known = {path for path, _ in leaves(schema())}
    groups = {path.rpartition(".")[0] for path in known}
    named = set(re.findall(r"`([a-z][a-zA-Z]*(?:\.[a-z][a-zA-Z]*)+)`", PAGE))
    named |= set(re.findall(r"--set(?:-file)? ([a-zA-Z.]+)=", PAGE))
    files = {"trust.json"}
    assert named - known - groups - files == set()
    assert named & known


def test_the_role_trusts_the_service_account_of_the_release_on_the_page() -> None:
    [policy] = [json.loads(block) for block in blocks("json")]
    [statement] = policy["Statement"]
    conditions = statement["Condition"]["StringEquals"]
    [subject] = [value for name, value in conditions.items() if name.endswith(":sub")]
    rendered = chart().render(
        yaml.safe_load(blocks("yaml")[0]), name="tendril", namespace="tendril"
    )
    account = yaml.safe_load(rendered["tendril/templates/serviceaccount.yaml"])["metadata"]["name"]
    assert subject == f"system:serviceaccount:tendril:{account}"
    assert statement["Principal"]["Federated"].endswith(next(iter(conditions)).removesuffix(":aud"))


def test_the_names_in_commands_are_those_of_the_release() -> None:
    first = yaml.safe_load(blocks("yaml")[0])
    rendered = chart().render(first, name="tendril", namespace="tendril")
    deployment = yaml.safe_load(rendered["tendril/templates/deployment.yaml"])
    assert f"deployment/{deployment['metadata']['name']}" in PAGE
    labels = deployment["metadata"]["labels"]
    assert f"app.kubernetes.io/instance={labels['app.kubernetes.io/instance']}" in PAGE
    assert first["existingSecret"] in PAGE.partition("```yaml")[0]


def test_the_seconds_on_the_page_add_up() -> None:
    grace_s = default_at("terminationGracePeriodSeconds")
    assert isinstance(grace_s, int)
    assert f"`terminationGracePeriodSeconds` ({grace_s})" in PAGE
    assert f"{MARGIN_S} s shorter" in PAGE
    assert f"has {grace_s - MARGIN_S - ENDING.total_s:.0f} s for what runs" in PAGE
    assert f"and {ENDING.total_s:.0f} s are kept" in PAGE.replace("\n", " ")


def test_claims_carry_the_label_by_which_the_page_removes_them() -> None:
    spec = of_kind(render({"state": {"persistence": {"enabled": True}}}), "StatefulSet")["spec"]
    [claim] = spec["volumeClaimTemplates"]
    assert claim["metadata"]["labels"]["app.kubernetes.io/instance"] == "agent"
