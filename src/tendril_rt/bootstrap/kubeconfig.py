"""Kubeconfigs: one is written for the new cluster, any can be read for our own calls.

Of a user's part are read: token, tokenFile, client certificate, and exec (what EKS uses); others
are refused by name. Relative paths are relative to the file, as kubectl has it.
"""

import base64
import json
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tendril_rt.errors import ConfigError, StepError, TendrilError
from tendril_rt.runner import private, process
from tendril_rt.runner.environment import child_environment

_EXEC_API = "client.authentication.k8s.io/v1beta1"  # which every client knows
_EXEC_S = 60.0


@dataclass(frozen=True, slots=True)
class Access:
    """How to speak to one API server.

    :ivar server: its URL
    :ivar tls: whom to trust there, and our certificate if we have one
    """

    server: str
    tls: ssl.SSLContext
    _user: Mapping[str, object] = field(repr=False)
    _folder: Path
    _environ: Mapping[str, str] = field(repr=False)

    async def token(self) -> str | None:
        """Return a fresh bearer token; None: the certificate says who we are.

        :raises ConfigError: the kubeconfig's program, or its file, gives none
        """
        if isinstance(token := self._user.get("token"), str):
            return token
        if isinstance(name := self._user.get("tokenFile"), str):
            return _read(self._folder / name).strip()
        if isinstance(plugin := self._user.get("exec"), dict):
            return await self._run(plugin)
        return None

    async def _run(self, plugin: Mapping[str, object]) -> str:
        argv = [str(plugin["command"]), *map(str, _list(plugin.get("args")))]
        given = {str(pair["name"]): str(pair["value"]) for pair in _list(plugin.get("env"))}
        info = {"apiVersion": plugin.get("apiVersion"), "kind": "ExecCredential", "spec": {}}
        env = {
            **child_environment(self._environ, ("GRAPE_*", "XDG_*", "PYTHONPATH", "VIRTUAL_ENV")),
            **given,
            "KUBERNETES_EXEC_INFO": json.dumps(info),
        }
        try:
            code, out, err = await process.capture(
                argv, cwd=self._folder, env=env, timeout_s=_EXEC_S
            )
            if code == 0:
                return str(json.loads(out)["status"]["token"])
        except (StepError, ValueError, KeyError, TypeError) as exc:
            err = f"{type(exc).__name__}: {exc}" if not isinstance(exc, StepError) else str(exc)
        raise ConfigError(
            f"the kubeconfig's program {argv[0]} gives no token: {err.strip()[-500:]}"
        )


def write(
    path: Path,
    *,
    name: str,
    server: str,
    certificate_authority: str,
    token_command: Sequence[str],
    environ: Mapping[str, str],
) -> None:
    """Write a kubeconfig (0600) whose tokens *token_command* prints; it holds no secret itself.

    :param certificate_authority: base64 of PEM
    :param environ: what the command needs beyond the environment that it will be run in
    :raises ConfigError: the disk refuses
    """
    plugin = {
        "apiVersion": _EXEC_API,
        "command": token_command[0],
        "args": list(token_command[1:]),
        "env": [{"name": key, "value": value} for key, value in environ.items()],
        "interactiveMode": "Never",
    }
    cluster = {"server": server, "certificate-authority-data": certificate_authority}
    whole = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"exec": plugin}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    try:
        private.write(path, json.dumps(whole, indent=2) + "\n")  # JSON is YAML
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def read(path: Path, environ: Mapping[str, str]) -> Access:
    """Read the current context of a kubeconfig.

    :param environ: for the program that prints its tokens
    :raises ConfigError: it cannot be read, or says nothing that we know
    """
    whole = _parsed(path)
    try:
        context = _named(whole["contexts"], whole["current-context"])["context"]
        cluster = _named(whole["clusters"], context["cluster"])["cluster"]
        user = _named(whole["users"], context["user"])["user"] or {}
        server = str(cluster["server"])
    except (KeyError, TypeError) as exc:
        raise ConfigError(
            f"{path} is no kubeconfig with a current context: {exc} is missing"
        ) from exc
    known = {"token", "tokenFile", "exec", "client-certificate", "client-certificate-data"}
    if not known & set(user):
        raise ConfigError(
            f"{path}: user {context['user']!r} has none of {', '.join(sorted(known))}"
        )
    return Access(server.rstrip("/"), _tls(path, cluster, user), user, path.parent, environ)


def _tls(path: Path, cluster: Mapping[str, str], user: Mapping[str, str]) -> ssl.SSLContext:
    try:
        if cluster.get("insecure-skip-tls-verify"):
            raise ConfigError(f"{path} asks not to look whom we speak to: name the server's CA")
        if data := cluster.get("certificate-authority-data"):
            pem = base64.b64decode(data).decode()
            context = ssl.create_default_context(cadata=pem)
        elif name := cluster.get("certificate-authority"):
            context = ssl.create_default_context(cafile=str(path.parent / name))
        else:
            context = ssl.create_default_context()
        _load_own(context, path.parent, user)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise ConfigError(f"{path}: a certificate or key cannot be read: {exc}") from exc
    return context


def _load_own(context: ssl.SSLContext, folder: Path, user: Mapping[str, str]) -> None:
    if name := user.get("client-certificate"):
        key = user.get("client-key")
        context.load_cert_chain(str(folder / name), str(folder / key) if key else None)
    elif data := user.get("client-certificate-data"):
        pem = base64.b64decode(data) + b"\n" + base64.b64decode(user.get("client-key-data", ""))
        with tempfile.NamedTemporaryFile() as file:  # 0600; ssl reads files only
            file.write(pem)
            file.flush()
            context.load_cert_chain(file.name)


def _parsed(path: Path) -> dict[str, object]:
    try:
        import yaml
    except ImportError as exc:
        raise TendrilError(
            f"reading kubeconfigs needs one more package ({exc.name}): "
            "pip install 'tendril-rt[grape]'"
        ) from exc
    try:
        whole = yaml.safe_load(_read(path))
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path} is no YAML") from exc  # its text may hold tokens
    if not isinstance(whole, dict):
        raise ConfigError(f"{path} is no kubeconfig")
    return whole


def _named(items: object, name: object) -> dict[str, dict[str, str]]:
    for item in _list(items):
        if item["name"] == name:
            return item
    raise KeyError(name)


def _list(value: object) -> list[dict[str, dict[str, str]]]:
    return value if isinstance(value, list) else []


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc
