"""No new work while a disk is nearly full: what runs may still finish.

Says so once when it begins and once when it ends. Never fails: whether a disk that cannot be asked
can be used is for the attempt to find out, whose error names it.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from tendril_rt.runner import disk

_log = logging.getLogger(__name__)


class DiskFloor:
    """Tells whether there is room for another provision.

    :param paths: on the disks that runs need; they need not exist yet
    :param floor_bytes: what must be free on each
    :param look: tells whether it is, for tests
    """

    def __init__(
        self,
        paths: Sequence[Path],
        floor_bytes: int,
        *,
        look: Callable[[Sequence[Path], int], bool] = disk.has_room,
    ) -> None:
        self._paths = tuple(paths)
        self._floor_bytes = floor_bytes
        self._look = look
        self.is_below = False

    def has_room(self) -> bool:
        """Look now; takes microseconds."""
        try:
            is_below = not self._look(self._paths, self._floor_bytes)
        except OSError as exc:
            _log.debug("cannot see how much is free: %s", exc)
            is_below = False
        if is_below and not self.is_below:
            _log.warning(
                "claiming nothing: less than %d bytes (TENDRIL_DISK_FLOOR_BYTES) are free for one "
                "of %s. What runs goes on; free space there",
                self._floor_bytes,
                ", ".join(map(str, self._paths)),
            )
        elif self.is_below and not is_below:
            _log.info("there is room on the disks again: claiming goes on")
        self.is_below = is_below
        return not is_below
