"""Settings: parsed whole, refused whole, and documented."""

import dataclasses
from pathlib import Path

import pytest

from tendril_rt.errors import ConfigError
from tendril_rt.model import ENDING
from tendril_rt.runner.steps import STOP_POLICIES
from tendril_rt.settings import Settings, from_env, variable_of
from tests.unit.render_settings import COMMAND, COMPONENTS, default_text, settings_page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
CLUSTER = "1b4e28ba-2fa1-4d52-883f-0016d3cca427"
_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
REQUIRED = {
    "TENDRIL_CLUSTER_ID": CLUSTER,
    "TENDRIL_API_TOKEN": "tdr_token",
    "SUPABASE_URL": "https://acme.supabase.co",
    "SUPABASE_KEY": "anon.key",
}
FIELDS = [item for component in COMPONENTS for item in dataclasses.fields(component)]


def parse(**environ: str) -> Settings:
    return from_env(REQUIRED | environ)


def problems(environ: dict[str, str]) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        from_env(environ)
    return refused.value.problems


# --- the table ------------------------------------------------------------------------------------


def test_the_page_of_settings_says_what_the_code_does() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), f"run: {COMMAND}"


def test_every_component_is_documented() -> None:
    held = {item.type for item in dataclasses.fields(Settings)}
    assert held == set(COMPONENTS)


def test_no_variable_stands_for_two_settings() -> None:
    names = [variable_of(item).name for item in FIELDS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: item.name)
def test_every_variable_is_one_that_children_never_see(item: dataclasses.Field[object]) -> None:
    assert variable_of(item).name.startswith(("TENDRIL_", "SUPABASE_"))


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: item.name)
def test_a_duration_says_its_unit_in_both_names(item: dataclasses.Field[object]) -> None:
    if item.type is float:
        assert item.name.endswith("_s")
        assert variable_of(item).name.endswith("_S")
        assert "seconds" in variable_of(item).doc


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: item.name)
def test_a_default_written_out_is_parsed_to_itself(item: dataclasses.Field[object]) -> None:
    text = default_text(item)
    if text:
        assert variable_of(item).parse(text) == item.default


@pytest.mark.parametrize("item", FIELDS, ids=lambda item: item.name)
def test_a_secret_is_not_shown_by_repr(item: dataclasses.Field[object]) -> None:
    assert item.repr is not variable_of(item).secret


# --- parsing --------------------------------------------------------------------------------------


def test_four_variables_are_enough() -> None:
    settings = parse()
    assert settings.control.cluster_id == CLUSTER
    assert settings.control.api_token == "tdr_token"
    assert settings.control.url == "https://acme.supabase.co"
    assert settings.control.api_key == "anon.key"
    assert settings.agent.capacity == 4
    assert settings.runner.workspace_dir == Path("/tmp/tendril")


def test_every_setting_is_read_from_its_variable() -> None:
    settings = parse(
        TENDRIL_REQUEST_TIMEOUT_S="3",
        TENDRIL_REALTIME="no",
        TENDRIL_STATE_DIR="/state",
        TENDRIL_CAPACITY="7",
        TENDRIL_POLL_INTERVAL_S="0.5",
        TENDRIL_HEARTBEAT_INTERVAL_S="11",
        TENDRIL_GRACE_S="600",
        TENDRIL_INSTALL_ID="install-1",
        TENDRIL_HEALTH_PORT="9377",
        TENDRIL_HEALTH_HOST="::",
        TENDRIL_LOG_LEVEL="debug",
        TENDRIL_LOG_FORMAT="json",
        TENDRIL_WORKSPACE_DIR="/work-space",
        TENDRIL_TERRAFORM="/opt/tofu",
        TENDRIL_ALLOW_FILE_REPOS="1",
        TENDRIL_REQUIRE_CONFIGURATION_HASH="YES",
        TENDRIL_PASS_ENV="GITHUB_TOKEN, DD_*,,",
        TENDRIL_GIT_TIMEOUT_S="60",
        TENDRIL_TRUSTED_KEYS=f"{_KEY}, {_KEY}",
        TENDRIL_GIT_CREDENTIALS_FILE="/secrets/git",
        TENDRIL_GIT_SSH_KEY_FILE="/secrets/key",
        TENDRIL_GIT_KNOWN_HOSTS_FILE="/secrets/hosts",
        TENDRIL_GIT_MAX_BYTES="1",
        TENDRIL_GIT_CACHE_MAX_BYTES="0",
        TENDRIL_WORKSPACE_MAX_BYTES="3",
        TENDRIL_DISK_FLOOR_BYTES="4",
        TENDRIL_INIT_TIMEOUT_S="61",
        TENDRIL_PLAN_TIMEOUT_S="62",
        TENDRIL_APPLY_TIMEOUT_S="63",
        TENDRIL_PROVISION_TIMEOUT_S="64",
        TENDRIL_PLUGIN_CACHE_DIR="/cache",
        TENDRIL_PLUGIN_MIRROR_DIR="/mirror",
        TENDRIL_DEFAULT_BACKEND_FILE="/backend.tf",
        TENDRIL_COST_ESTIMATE="yes",
        TENDRIL_SPOOL_MAX_BYTES="2000000",
        TENDRIL_SPOOL_TOTAL_MAX_BYTES="3000000",
        TENDRIL_SPOOL_KEEP_S="3600",
    )
    assert dataclasses.astuple(settings.logs) == (2_000_000, 3_000_000, 3600.0)
    assert dataclasses.astuple(settings.control)[4:] == (3.0, False)
    assert dataclasses.astuple(settings.agent) == (
        *(Path("/state"), 7, 0.5, 11.0, 600.0, "install-1", 9377, "::"),
        *("debug", "json"),
    )
    assert dataclasses.astuple(settings.runner) == (
        *(Path("/work-space"), "/opt/tofu", True, True, (bytes(32), bytes(32))),
        *(("GITHUB_TOKEN", "DD_*"), 60.0),
        *(Path("/secrets/git"), Path("/secrets/key"), Path("/secrets/hosts")),
        *(1, 0, 3, 4),
        *(61.0, 62.0, 63.0, 64.0),
        *(Path("/cache"), Path("/mirror"), Path("/backend.tf"), True),
    )


def test_blanks_around_a_value_are_not_part_of_it_and_an_empty_one_is_absent() -> None:
    settings = parse(TENDRIL_CAPACITY=" 2\n", TENDRIL_LOG_LEVEL="", SUPABASE_KEY="key\n")
    assert settings.agent.capacity == 2
    assert settings.agent.log_level == "info"
    assert settings.control.api_key == "key"


def test_variables_of_others_are_left_alone() -> None:
    assert parse(PATH="/bin", TENDRIL_FUTURE="x") == parse()


def test_a_trailing_slash_of_the_url_is_dropped() -> None:
    assert parse(SUPABASE_URL="http://127.0.0.1:8000/").control.url == "http://127.0.0.1:8000"


def test_the_cluster_id_is_brought_into_its_usual_form() -> None:
    assert parse(TENDRIL_CLUSTER_ID=CLUSTER.upper()).control.cluster_id == CLUSTER


# --- refusals -------------------------------------------------------------------------------------


def test_every_missing_variable_is_listed_and_not_only_the_first() -> None:
    listed = problems({})
    assert len(listed) == len(REQUIRED)
    for name in REQUIRED:
        assert any(problem.startswith(f"{name} is not set: ") for problem in listed)


def test_problems_of_all_components_are_listed_together() -> None:
    listed = problems(
        {"SUPABASE_URL": "nonsense", "TENDRIL_CAPACITY": "0", "TENDRIL_REALTIME": "maybe"}
        | {"TENDRIL_ALLOW_FILE_REPOS": "2", "TENDRIL_HEARTBEAT_INTERVAL_S": "41"}
    )
    assert [problem.partition(" ")[0] for problem in listed] == [
        *("TENDRIL_CLUSTER_ID", "TENDRIL_API_TOKEN", "SUPABASE_URL", "SUPABASE_KEY"),
        *("TENDRIL_REALTIME", "TENDRIL_CAPACITY", "TENDRIL_HEARTBEAT_INTERVAL_S"),
        "TENDRIL_ALLOW_FILE_REPOS",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TENDRIL_CLUSTER_ID", "my-cluster"),
        ("SUPABASE_URL", "acme.supabase.co"),
        ("SUPABASE_URL", "ftp://acme.supabase.co"),
        ("SUPABASE_URL", "https://"),
        ("SUPABASE_URL", "https://[acme"),
        ("TENDRIL_REQUEST_TIMEOUT_S", "0"),
        ("TENDRIL_REQUEST_TIMEOUT_S", "-1"),
        ("TENDRIL_REQUEST_TIMEOUT_S", "nan"),
        ("TENDRIL_REQUEST_TIMEOUT_S", "inf"),
        ("TENDRIL_REQUEST_TIMEOUT_S", "10s"),
        ("TENDRIL_REQUEST_TIMEOUT_S", "60.1"),
        ("TENDRIL_GRACE_S", "119.9"),
        ("TENDRIL_HEALTH_PORT", "65536"),
        ("TENDRIL_HEALTH_PORT", "-1"),
        ("TENDRIL_HEALTH_PORT", "http"),
        ("TENDRIL_HEALTH_HOST", "localhost"),
        ("TENDRIL_HEALTH_HOST", "0.0.0.0:80"),
        ("TENDRIL_REALTIME", "on"),
        ("TENDRIL_STATE_DIR", "state"),
        ("TENDRIL_CAPACITY", "0"),
        ("TENDRIL_CAPACITY", "1.5"),
        ("TENDRIL_CAPACITY", "-1"),
        ("TENDRIL_CAPACITY", "٣"),
        ("TENDRIL_LOG_LEVEL", "verbose"),
        ("TENDRIL_LOG_FORMAT", "xml"),
        ("TENDRIL_WORKSPACE_DIR", "./here"),
        ("TENDRIL_HEARTBEAT_INTERVAL_S", "41"),
        ("TENDRIL_SPOOL_MAX_BYTES", "64MB"),
        ("TENDRIL_SPOOL_MAX_BYTES", "1000"),
        ("TENDRIL_SPOOL_KEEP_S", "0"),
    ],
)
def test_an_illegal_value_is_the_one_problem_and_names_its_variable(name: str, value: str) -> None:
    [problem] = problems(REQUIRED | {name: value})
    assert problem.startswith(f"{name} ")


@pytest.mark.parametrize("name", ["TENDRIL_API_TOKEN", "SUPABASE_KEY"])
@pytest.mark.parametrize("value", ["hunter22 x", "hunter22\nhunter22", "hunter22é", "hunter22\x00"])
def test_a_damaged_secret_is_refused_without_being_shown(name: str, value: str) -> None:
    [problem] = problems(REQUIRED | {name: value})
    assert problem.startswith(f"{name} must be")
    assert "hunter22" not in problem


def test_secrets_are_not_in_the_repr_of_settings() -> None:
    shown = repr(parse())
    assert "tdr_token" not in shown
    assert "anon.key" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "https://acme.supabase.co/rest/v1",
        "https://acme.supabase.co?apikey=x",
        "https://acme.supabase.co:port",
    ],
)
def test_a_url_that_is_more_than_the_base_is_refused(url: str) -> None:
    [problem] = problems(REQUIRED | {"SUPABASE_URL": url})
    assert problem.startswith("SUPABASE_URL ")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse().agent.capacity = 9  # type: ignore[misc]


# --- the end of an agent --------------------------------------------------------------------------


def test_a_grace_without_room_for_the_ending_is_refused_with_the_sum_spelled_out() -> None:
    [problem] = problems(REQUIRED | {"TENDRIL_GRACE_S": "30"})
    assert "takes up to 120 s" in problem
    assert "45 s to stop Terraform + 60 s to deliver its log + 15 s to report and exit" in problem
    assert "terminationGracePeriodSeconds" in problem


def test_what_is_left_of_the_grace_is_for_draining() -> None:
    assert parse().agent.drain_s == 1680
    assert parse(TENDRIL_GRACE_S="120").agent.drain_s == 0


def test_a_plan_that_is_stopped_fits_into_its_part_of_the_ending() -> None:
    assert STOP_POLICIES["plan"].kill
    assert STOP_POLICIES["init"].grace_s <= STOP_POLICIES["plan"].grace_s < ENDING.stop_s
