"""What several of the integration tests share and takes long to make."""

import os
from pathlib import Path

import pytest

from .binaries import Binaries, build


@pytest.fixture(scope="session")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Binaries:
    """The built binaries; ``BUILT_BINARIES`` names a folder where ``make binary`` has left them."""
    built = os.environ.get("BUILT_BINARIES")
    if built:
        return Binaries(Path(built) / "tendril", Path(built) / "tendril-demo" / "tendril")
    return build(tmp_path_factory.mktemp("binaries"))
