"""What the chart makes, against a real control plane: the agent's variables, KEDA's questions.

KEDA itself is not run. Its ``metrics-api`` scaler sends GET with the API key in the header that
``keyParamName`` names, and the token as a bearer; then it takes the number at ``valueLocation``
(source: KEDA's pkg/scalers/metrics_api_scaler.go since 2.18).
"""

import os
import subprocess
from pathlib import Path

import anyio.to_thread
import httpx
import orjson
import pytest

from tendril_rt.control.owner import Owner, Registration
from tests.chart.rendering import Object, environment, of_kind, render
from tests.conftest import TENDRIL, RunningPlane

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def rendered(plane: RunningPlane, cluster: Registration, *more: Object) -> list[Object]:
    return render(
        {
            "cluster": {"id": cluster.cluster_id},
            "controlPlane": {"url": plane.url, "apiKey": plane.anon_key},
            "token": cluster.token,
            "keda": {"enabled": True, "tokenSecret": "scaler"},
        },
        *more,
    )


async def test_the_doctor_finds_nothing_wrong_with_what_the_chart_gives_it(
    plane: RunningPlane, cluster: Registration, tmp_path: Path
) -> None:
    (tmp_path / "tmp").mkdir()
    places = {
        "state": {"mountPath": str(tmp_path)},
        "settings": {"TENDRIL_WORKSPACE_DIR": str(tmp_path / "tmp" / "tendril")},
    }
    found = environment(rendered(plane, cluster, places))
    own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [*TENDRIL, "doctor", "--json"], env=own | found, capture_output=True, check=False
        )
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert orjson.loads(done.stdout)["ok"]


def scaled_object(plane: RunningPlane, cluster: Registration) -> Object:
    return of_kind(rendered(plane, cluster), "ScaledObject")


def asked(trigger: Object, api_key: str, token: str) -> float:
    """Return the number that the trigger finds.

    :raises httpx.HTTPStatusError: it is refused
    """
    metadata = trigger["metadata"]
    assert metadata["authModes"] == "apiKey,bearer"
    headers = {metadata["keyParamName"]: api_key, "Authorization": f"Bearer {token}"}
    answer = httpx.get(metadata["url"], headers=headers).raise_for_status().json()
    index, field = metadata["valueLocation"].split(".")
    return float(answer[int(index)][field])


async def test_the_triggers_find_what_waits_and_what_runs(
    plane: RunningPlane, user: Owner, cluster: Registration
) -> None:
    triggers = {
        trigger["name"]: trigger for trigger in scaled_object(plane, cluster)["spec"]["triggers"]
    }
    for token in (plane.user_token, plane.service_role_key):
        found = {name: asked(t, plane.anon_key, token) for name, t in triggers.items()}
        assert found == {"ready": 0, "running": 0}
    snapshot = {"template_source": {"repo": "https://example.com/t", "version": "v1"}}
    for _ in range(3):
        await user.create_provision(cluster.cluster_id, snapshot)
    found = {name: asked(t, plane.anon_key, plane.user_token) for name, t in triggers.items()}
    assert found == {"ready": 3, "running": 0}


async def test_the_anonymous_key_alone_hears_nothing(
    plane: RunningPlane, cluster: Registration
) -> None:
    [trigger, _] = scaled_object(plane, cluster)["spec"]["triggers"]
    with pytest.raises(httpx.HTTPStatusError):
        asked(trigger, plane.anon_key, plane.anon_key)
