"""Fetch the dashboard's two libraries anew: ``make vendor`` (needs npm and its registry).

Versions are pinned here. What is fetched is kept byte for byte, each file with its sha256 and the
licence of its package, in ``manifest.json`` beside it; a test compares. Npm itself checks the
archive against the registry's own checksum.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = (
    Path(__file__).resolve().parents[1] / "src" / "tendril_rt" / "local" / "dashboard" / "static"
) / "vendor"

#: package, version → its files, and the names that they get.
PACKAGES = {
    ("@supabase/supabase-js", "2.119.1"): {
        "dist/umd/supabase.js": "supabase.js",
        "LICENSE": "supabase.LICENSE",
    },
    ("@xterm/xterm", "6.0.0"): {
        "lib/xterm.mjs": "xterm.mjs",
        "css/xterm.css": "xterm.css",
        "LICENSE": "xterm.LICENSE",
    },
    ("@xterm/addon-fit", "0.11.0"): {
        "lib/addon-fit.mjs": "addon-fit.mjs",
        "LICENSE": "addon-fit.LICENSE",
    },
}


def fetched(package: str, version: str, folder: Path) -> Path:
    """Return the unpacked *package*."""
    printed = subprocess.run(
        ["npm", "pack", "--silent", f"{package}@{version}"],
        cwd=folder,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    archive = folder / printed.split()[-1]
    into = archive.with_suffix("")
    with tarfile.open(archive) as packed:
        packed.extractall(into, filter="data")
    return into / "package"


def main() -> None:
    shutil.rmtree(VENDOR, ignore_errors=True)
    VENDOR.mkdir(parents=True)
    manifest = []
    with tempfile.TemporaryDirectory() as folder:
        for (package, version), files in PACKAGES.items():
            unpacked = fetched(package, version, Path(folder))
            licence = json.loads((unpacked / "package.json").read_text())["license"]
            entry = {"package": package, "version": version, "licence": licence, "files": {}}
            for inside, name in files.items():
                content = (unpacked / inside).read_bytes()
                (VENDOR / name).write_bytes(content)
                digest = hashlib.sha256(content).hexdigest()
                entry["files"][name] = {"from": inside, "sha256": digest}
            manifest.append(entry)
    (VENDOR / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


if __name__ == "__main__":
    main()
