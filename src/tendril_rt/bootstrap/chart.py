"""The release of ``charts/tendril``: by the ``helm`` on PATH, else by Helm as a library.

Nothing that is secret goes through here: the chart is told the name of a Secret. A release that is
as it should be is left alone, so that no pod is replaced for nothing.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio.to_thread

from tendril_rt import resources
from tendril_rt.bootstrap.plan import Request
from tendril_rt.bootstrap.registration import SECRET, Credentials
from tendril_rt.errors import KubernetesError, TendrilError
from tendril_rt.runner import private, process
from tendril_rt.runner.environment import child_environment

if TYPE_CHECKING:
    import helm_python

RELEASE = "tendril"
_TIMEOUT_S = 300
_PASSED = ("HELM_*", "GRAPE_*", "XDG_*", "PYTHONPATH", "VIRTUAL_ENV")

T = TypeVar("T")
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """A release as Helm lists it.

    :ivar status: ``deployed``, ``failed``, ``pending-install``, …
    :ivar chart: with its version, such as ``tendril-0.2.0``
    """

    status: str
    chart: str
    values: Values


class Helm(Protocol):
    """Helm for one release in one namespace; raises KubernetesError in Helm's words."""

    async def find(self) -> Release | None:
        """Return the release; None: there is none."""

    async def put(self, chart: Path, values: Values, *, is_first: bool) -> None:
        """Install or upgrade."""

    async def roll_back(self) -> None:
        """Return to the revision before, from an upgrade that nobody finishes."""

    async def remove(self) -> None:
        """Uninstall, if there is something."""


def find(request: Request, kubeconfig: Path) -> Helm:
    """Return the Helm that is there.

    :raises TendrilError: neither program nor library
    """
    program = shutil.which("helm", path=request.environ.get("PATH"))
    if program is not None:
        env = {
            **child_environment(request.environ, _PASSED),
            "KUBECONFIG": str(kubeconfig),
        }
        return HelmProgram(program, request.namespace, env, request.folder)
    try:
        import helm_python
    except ImportError as exc:
        raise TendrilError(
            "helm is not on PATH, and its library is not installed: install Helm 3.8 or newer "
            "(https://helm.sh), or pip install 'tendril-rt[helm]'"
        ) from exc
    return HelmLibrary(helm_python, kubeconfig, request.namespace)


def values_of(request: Request, credentials: Credentials, role_arn: str | None) -> dict[str, Any]:
    """Return the chart's values: the user's own, under what bootstrap decides."""
    ours: dict[str, Any] = {
        "cluster": {"id": credentials.cluster_id},
        "controlPlane": {"url": request.url},
        "existingSecret": SECRET,
        "settings": {"TENDRIL_INSTALL_ID": credentials.install_id},
        "serviceAccount": {
            "name": request.service_account,
            **({"roleArn": role_arn} if role_arn else {}),
        },
    }
    return _merged(request.chart_values, ours)


async def ensure(helm: Helm, values: Values) -> bool:
    """Install or upgrade where the release is not as it should be; return whether.

    :raises KubernetesError: with Helm's words
    """
    chart, present = resources.chart(), await helm.find()
    if present == Release("deployed", _version(chart), values):
        return False
    # Whoever was at it was killed: Helm refuses everything else until that is undone.
    if present is not None and present.status == "pending-install":
        await helm.remove()
        present = None
    elif present is not None and present.status.startswith("pending-"):
        await helm.roll_back()
    await helm.put(chart, values, is_first=present is None)
    return True


@dataclass(frozen=True, slots=True)
class HelmProgram:
    """The ``helm`` of the machine."""

    path: str
    namespace: str
    env: Mapping[str, str]
    folder: Path

    async def find(self) -> Release | None:
        listed = json.loads(
            await self._run(
                *("list", "--deployed", "--failed", "--pending"),
                *("--filter", f"^{RELEASE}$", "--output", "json"),
            )
        )
        if not listed:
            return None
        values = json.loads(await self._run("get", "values", RELEASE, "--output", "json"))
        return Release(str(listed[0]["status"]), str(listed[0]["chart"]), values or {})

    async def put(self, chart: Path, values: Values, *, is_first: bool) -> None:
        file = self.folder / "values.json"
        private.write(file, json.dumps(values, indent=2))
        verb = ("install",) if is_first else ("upgrade", "--reset-values")
        await self._run(
            *(*verb, RELEASE, str(chart)),
            *("--values", str(file), "--timeout", f"{_TIMEOUT_S}s"),
        )

    async def roll_back(self) -> None:
        await self._run("rollback", RELEASE, "--timeout", f"{_TIMEOUT_S}s")

    async def remove(self) -> None:
        if await self.find() is not None:
            await self._run("uninstall", RELEASE, "--timeout", f"{_TIMEOUT_S}s")

    async def _run(self, *arguments: str) -> str:
        code, out, err = await process.capture(
            [self.path, *arguments, "--namespace", self.namespace],
            cwd=self.folder,
            env=self.env,
            timeout_s=_TIMEOUT_S + 30,
        )
        if code != 0:
            raise KubernetesError(f"helm {arguments[0]} ended with {code}: {err.strip()[-1000:]}")
        return out


class HelmLibrary:
    """Helm's SDK in this process; its calls block, so they are made in threads.

    :param library: the module ``helm_python``
    """

    def __init__(self, library: Any, kubeconfig: Path, namespace: str) -> None:  # noqa: ANN401
        self._library = library
        self._kubeconfig = kubeconfig
        self._namespace = namespace

    async def find(self) -> Release | None:
        def look(config: "helm_python.Config") -> Release | None:
            found = config.list(all_states=True, name_filter=f"^{RELEASE}$")
            if not found or found[0]["status"] == "uninstalled":
                return None
            metadata = config.get_metadata(RELEASE)
            name = f"{metadata['chart']}-{metadata['version']}"
            values = dict(config.get_values(RELEASE) or {})
            return Release(str(found[0]["status"]), name, values)

        return await self._run("list", look)

    async def put(self, chart: Path, values: Values, *, is_first: bool) -> None:
        def put(config: "helm_python.Config") -> None:
            act = config.install if is_first else config.upgrade
            act(chart, RELEASE, dict(values), namespace=self._namespace, timeout=_TIMEOUT_S)

        await self._run("install" if is_first else "upgrade", put)

    async def roll_back(self) -> None:
        await self._run("rollback", lambda config: config.rollback(RELEASE, timeout=_TIMEOUT_S))

    async def remove(self) -> None:
        def remove(config: "helm_python.Config") -> None:
            config.uninstall(RELEASE, ignore_not_found=True, timeout=_TIMEOUT_S)

        await self._run("uninstall", remove)

    async def _run(self, verb: str, act: Callable[["helm_python.Config"], T]) -> T:
        def run() -> T:
            try:
                with self._library.Config(
                    kubeconfig_path=self._kubeconfig, namespace=self._namespace
                ) as config:
                    return act(config)
            except self._library.HelmError as exc:
                raise KubernetesError(f"helm {verb} failed: {str(exc)[-1000:]}") from exc

        return await anyio.to_thread.run_sync(run)


def _merged(under: Mapping[str, object], over: Mapping[str, object]) -> dict[str, Any]:
    whole = dict(under)
    for name, value in over.items():
        below = whole.get(name)
        whole[name] = (
            _merged(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
        )
    return whole


def _version(chart: Path) -> str:
    """Return name and version as Helm prints them."""
    lines = (chart / "Chart.yaml").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(": ", 1) for line in lines if ": " in line)
    return f"{fields['name']}-{fields['version']}".replace('"', "")
