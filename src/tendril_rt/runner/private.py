"""Files that are this user's alone."""

import os
from pathlib import Path


def write(path: Path, text: str) -> None:
    """Write *text* with mode 0600, whole or not at all; never through a link that stands there.

    :raises OSError: the disk refuses
    """
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(fresh, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
