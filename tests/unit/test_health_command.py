"""``tendril health``: what it makes of the health port's answers."""

import pytest

from tendril_rt.agent import health as port
from tendril_rt.agent.vitals import Verdict
from tendril_rt.cli.health import health

REQUIRED = {
    "TENDRIL_CLUSTER_ID": "00000000-0000-4000-8000-00000000000a",
    "TENDRIL_API_TOKEN": "tdl_0123456789abcdef",
    "SUPABASE_URL": "http://127.0.0.1:9",
    "SUPABASE_KEY": "anon",
}


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
@pytest.mark.parametrize(("is_alive", "exit_code"), [(True, 0), (False, 1)])
def test_it_says_what_livez_says(
    host: str, is_alive: bool, exit_code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    page = port.verdict_page(lambda: Verdict(is_alive, "because", {}))
    with port.serving(host, 0, {"/livez": page}) as number:
        environ = {"TENDRIL_HEALTH_HOST": host, "TENDRIL_HEALTH_PORT": str(number)}

        assert health(REQUIRED | environ) == exit_code

    assert '"because"' in capsys.readouterr().out


def test_nobody_there_is_not_alive(capsys: pytest.CaptureFixture[str]) -> None:
    with port.serving("127.0.0.1", 0, {}) as number:
        pass

    assert health(REQUIRED | {"TENDRIL_HEALTH_PORT": str(number)}) == 1
    assert f"no answer from 127.0.0.1 port {number}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        (REQUIRED, "TENDRIL_HEALTH_PORT is not set"),
        ({"TENDRIL_HEALTH_PORT": "8080"}, "TENDRIL_API_TOKEN is not set"),
    ],
)
def test_what_cannot_be_asked_is_a_matter_of_settings(
    environ: dict[str, str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health(environ) == 2
    assert why in capsys.readouterr().err
