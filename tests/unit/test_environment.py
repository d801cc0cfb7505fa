"""What a template may see of the agent's environment: an allow-list."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.runner.environment import child_environment

SECRETS = {
    "TENDRIL_API_TOKEN": "t",
    "TENDRIL_CLUSTER_ID": "c",
    "SUPABASE_KEY": "k",
    "SUPABASE_URL": "u",
    "SUPABASE_SERVICE_ROLE_KEY": "s",
}


def test_the_token_and_the_api_key_never_reach_a_child() -> None:
    assert child_environment(SECRETS) == {}


@pytest.mark.parametrize(
    "asked", [["*"], ["TENDRIL_*"], ["SUPABASE_*"], list(SECRETS), ["T*", "S*"]]
)
def test_no_setting_can_let_them_through(asked: list[str]) -> None:
    assert child_environment(SECRETS, asked) == {}


@given(st.lists(st.text(alphabet="TENDRILSUPABKY_*", max_size=8), max_size=4))
def test_no_pattern_can_let_them_through(asked: list[str]) -> None:
    assert child_environment(SECRETS, asked) == {}


@pytest.mark.parametrize(
    "name",
    [
        "DATABASE_URL",
        "GITHUB_TOKEN",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PYTHONPATH",
        "GIT_DIR",
        "GIT_ASKPASS_SECRET",
        "TF_VAR_secret",
        "TF_CLI_ARGS",
        "MY_AWS_KEY",
        "path",
    ],
)
def test_what_nobody_allowed_stays_out(name: str) -> None:
    assert child_environment({name: "x", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "HOME",
        "LC_ALL",
        "HTTPS_PROXY",
        "https_proxy",
        "SSL_CERT_FILE",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "ARM_CLIENT_ID",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "KUBERNETES_SERVICE_HOST",
        "KUBECONFIG",
        "SSH_AUTH_SOCK",
        "GIT_ASKPASS",
        "TF_CLI_CONFIG_FILE",
        "TF_LOG_PATH",
    ],
)
def test_cloud_identities_proxies_and_trust_stores_pass(name: str) -> None:
    assert child_environment({name: "x"}) == {name: "x"}


def test_further_variables_are_allowed_by_name_or_by_beginning() -> None:
    environ = {"GITHUB_TOKEN": "g", "DD_SITE": "d", "DD_ENV": "e", "OTHER": "o"}
    assert child_environment(environ, ["GITHUB_TOKEN", "DD_*"]) == {
        "GITHUB_TOKEN": "g",
        "DD_SITE": "d",
        "DD_ENV": "e",
    }


def test_a_name_without_a_star_allows_no_other_ending() -> None:
    assert child_environment({"DD": "1", "DD_ENV": "e"}, ["DD"]) == {"DD": "1"}


def test_the_result_is_the_childs_own() -> None:
    environ = {"PATH": "/bin"}
    child_environment(environ)["PATH"] = "/other"
    assert environ == {"PATH": "/bin"}
