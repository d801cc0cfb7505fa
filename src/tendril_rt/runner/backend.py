"""Where a run's state goes: the template's own backend, the agent's default one, or a local file.

State never lives in a workspace only, which is removed. A template without a backend gets one by
an override file: the agent's default (``TENDRIL_DEFAULT_BACKEND_FILE``), or a file in the agent's
state directory. Both are kept apart by stack.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tendril_rt.errors import ConfigError
from tendril_rt.runner import private

#: Stands in a default backend where the name of the stack's own state is to stand.
STACK_MARK = "__STACK__"


@dataclass(frozen=True, slots=True)
class StackDir:
    """What the agent keeps of one stack, in a folder of mode 0700.

    :ivar name: fit for a file name and for an address: a part of the key's sha256
    """

    path: Path
    name: str

    @classmethod
    def make(cls, parent: Path, stack_key: str) -> "StackDir":
        """:raises OSError: the disk refuses"""
        name = hashlib.sha256(stack_key.encode()).hexdigest()[:32]
        path = parent / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        private.write(path / "stack_key", stack_key)  # for people: whose folder it is
        return cls(path, name)

    @property
    def lock_history(self) -> Path:
        return self.path / "lock-history.json"

    def local_backend(self) -> str:
        """Return the override that keeps state here, as JSON."""
        path = str(self.path / "terraform.tfstate")
        return json.dumps({"terraform": {"backend": {"local": {"path": path}}}})


def read_default_backend(file: Path | None) -> str | None:
    """Return the text of the agent's default backend, None if it has none.

    :raises ConfigError: it cannot be read, or would give all stacks one state
    """
    if file is None:
        return None
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"TENDRIL_DEFAULT_BACKEND_FILE: cannot read {file} ({exc}): it holds a terraform block "
            "with a backend, as Terraform reads it"
        ) from exc
    if STACK_MARK not in text:
        raise ConfigError(
            f"TENDRIL_DEFAULT_BACKEND_FILE: {file} lacks {STACK_MARK}, so that all stacks would "
            f'share one state: put it into the path, such as key = "tendril/{STACK_MARK}.tfstate"'
        )
    return text


def configured_type(root_module: Path) -> str | None:
    """Return the kind of backend that init has configured, such as ``s3``; None before that."""
    try:
        noted = json.loads((root_module / ".terraform" / "terraform.tfstate").read_text())
        kind = noted["backend"]["type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(kind)
