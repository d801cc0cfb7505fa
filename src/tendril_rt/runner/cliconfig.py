"""Terraform's own configuration file, written by the agent: where providers come from.

One file per agent. With a mirror, providers that it holds come from it alone and all others from
their registry, as Terraform does with its implied mirrors. A plugin cache is written by ``init``
without any lock of Terraform's own, so inits that share one must take turns.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tendril_rt.errors import ConfigError
from tendril_rt.runner import private

_VARIABLE = "TF_CLI_CONFIG_FILE"
_CACHE_VARIABLE = "TF_PLUGIN_CACHE_DIR"


@dataclass(frozen=True, slots=True)
class CliConfig:
    """How this agent's Terraform is set up.

    :ivar env: what every command gets
    :ivar shares_cache: inits write one plugin cache: run one at a time
    """

    env: Mapping[str, str]
    shares_cache: bool


def write(
    folder: Path, *, cache: Path | None, mirror: Path | None, environ: Mapping[str, str]
) -> CliConfig:
    """Write the file into *folder* if a setting asks for it; else the environment's own holds.

    :param environ: what children see of the agent's environment
    :raises ConfigError: a folder cannot be used
    """
    if cache is None and mirror is None:
        return CliConfig({}, shares_cache=_CACHE_VARIABLE in environ)
    try:
        text = ""
        if cache is not None:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            text += f"plugin_cache_dir = {_quoted(str(cache))}\n"
        if mirror is not None:
            text += _installation(mirror)
        path = folder / "terraform.tfrc"
        private.write(path, text)
    except OSError as exc:
        raise ConfigError(
            f"TENDRIL_PLUGIN_CACHE_DIR or TENDRIL_PLUGIN_MIRROR_DIR: {exc.filename or folder} "
            f"cannot be used ({exc.strerror or exc})"
        ) from exc
    return CliConfig({_VARIABLE: str(path)}, cache is not None or _CACHE_VARIABLE in environ)


def _installation(mirror: Path) -> str:
    """Return the block for a mirror laid out as ``<host>/<namespace>/<type>/…``.

    :raises OSError: it is not there
    """
    if not mirror.is_dir():
        raise NotADirectoryError(20, "no such folder", str(mirror))
    held = sorted("/".join(path.parts[-3:]) for path in mirror.glob("*/*/*") if path.is_dir())
    listed = ", ".join(_quoted(name) for name in held)
    return (
        "provider_installation {\n"
        f"  filesystem_mirror {{\n    path    = {_quoted(str(mirror))}\n"
        f"    include = [{listed}]\n  }}\n"
        f"  direct {{\n    exclude = [{listed}]\n  }}\n"
        "}\n"
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
