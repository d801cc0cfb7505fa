"""What an agent needs of its host: programs, folders, disk."""

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVarTuple, Unpack

import anyio.to_thread

from tendril_rt.cli.doctor_findings import Finding, fail, ok, warn
from tendril_rt.errors import StepError
from tendril_rt.runner import process, terraform
from tendril_rt.runner.environment import child_environment
from tendril_rt.settings import Settings

_PROGRAM_LIMIT_S = 30.0
_MIN_FREE_INODES = 10_000
_LOCKS = Path("/proc/locks")

Arguments = TypeVarTuple("Arguments")


async def check_git(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look for git and let it say its version."""
    cure = "install git, version 2.30 or later, on the agent's PATH"
    program = shutil.which("git", path=environ.get("PATH"))
    if program is None:
        return [fail("git", "not on PATH", cure)]
    try:
        code, stdout, stderr = await process.capture(
            [program, "--version"],
            cwd=Path("/"),
            env=child_environment(environ, settings.runner.pass_env),
            timeout_s=_PROGRAM_LIMIT_S,
        )
    except StepError as exc:
        return [fail("git", str(exc), cure)]
    if code != 0:
        return [fail("git", f"{program} --version ended with {code}: {stderr.strip()}", cure)]
    return [ok("git", f"{stdout.strip()} ({program})")]


async def check_terraform(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Look for Terraform or OpenTofu, its version, and the files that its environment names."""
    env = child_environment(environ, settings.runner.pass_env)
    try:
        program = terraform.find(settings.runner.terraform, environ.get("PATH"))
        version = await terraform.version_of(program, cwd=Path("/"), env=env)
    except StepError as exc:
        cure = "install it for the user that the agent runs as, or set TENDRIL_TERRAFORM"
        return [fail("terraform", str(exc), cure)]
    findings = [ok("terraform", f"{version} ({program})")]
    for variable, folder in (
        ("TENDRIL_PLUGIN_CACHE_DIR", settings.runner.plugin_cache_dir),
        ("TENDRIL_PLUGIN_MIRROR_DIR", settings.runner.plugin_mirror_dir),
    ):
        if folder is not None and not os.access(folder, os.R_OK | os.X_OK):
            cure = "make the folder, readable for the agent's user"
            findings.append(fail("terraform", f"{variable} {folder} cannot be read", cure))
    if settings.runner.plugin_cache_dir or settings.runner.plugin_mirror_dir:
        return findings  # the agent writes its own CLI configuration
    return [*findings, *_cli_config(env)]


def _cli_config(env: Mapping[str, str]) -> list[Finding]:
    findings = []
    file = env.get("TF_CLI_CONFIG_FILE")
    if file and not os.access(file, os.R_OK):
        cure = "name a file that the agent may read, or unset it: Terraform goes on without it"
        findings.append(warn("terraform", f"TF_CLI_CONFIG_FILE {file} cannot be read", cure))
    cache = env.get("TF_PLUGIN_CACHE_DIR")
    if cache and not os.access(cache, os.W_OK | os.X_OK):
        cure = "make the folder for the agent's user: Terraform does not make it, and fails"
        findings.append(fail("terraform", f"TF_PLUGIN_CACHE_DIR {cache} is not writable", cure))
    if not findings and (file or cache):
        findings.append(ok("terraform", f"CLI configuration: {file or 'none'}; cache: {cache}"))
    return findings


async def check_state_dir(settings: Settings) -> list[Finding]:
    """Look at the folder that has to survive restarts, and at who uses it."""
    folder = settings.agent.state_dir
    cure = "name a folder of the agent's own user, on a disk that survives restarts"
    floor_bytes = settings.runner.disk_floor_bytes
    findings = await _look(_folder, "state", "TENDRIL_STATE_DIR", folder, cure, floor_bytes)
    if all(finding.cure is None for finding in findings) and folder.exists():
        findings += await _look(_private, folder)
        findings += await _look(_user_of, folder / "agent.lock")
    return findings


async def check_workspaces(settings: Settings) -> list[Finding]:
    """Look at the folder where provisions run."""
    cure = "name a folder of the agent's own user, with room for providers and modules"
    folder = settings.runner.workspace_dir
    floor_bytes = settings.runner.disk_floor_bytes
    return await _look(_folder, "workspaces", "TENDRIL_WORKSPACE_DIR", folder, cure, floor_bytes)


async def _look(
    check: Callable[[Unpack[Arguments]], list[Finding]], *arguments: *Arguments
) -> list[Finding]:
    """Look at a disk from a thread: one that hangs must not hold up the others."""
    return await anyio.to_thread.run_sync(check, *arguments, abandon_on_cancel=True)


def _folder(check: str, variable: str, folder: Path, cure: str, floor_bytes: int) -> list[Finding]:
    """Check that the folder, or where it will be made, can be written, and has room."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as exc:
        return [fail(check, f"{variable} {folder}: {exc.strerror or exc}", cure)]
    disk = os.statvfs(there)
    free_bytes = disk.f_bavail * disk.f_frsize
    made = "" if folder.exists() else ", will be made"
    text = f"{folder} is writable{made}, {free_bytes / 1024**3:.1f} GiB free"
    if free_bytes < floor_bytes or (disk.f_files and disk.f_favail < _MIN_FREE_INODES):
        files = f", {disk.f_favail} more files" if disk.f_files else ""
        room = "make room: nothing is claimed below TENDRIL_DISK_FLOOR_BYTES"
        return [fail(check, f"{text}{files}", f"{room} ({floor_bytes})")]
    return [ok(check, text)]


def _private(folder: Path) -> list[Finding]:
    status = folder.stat()
    if status.st_uid != os.geteuid():
        cure = f"chown it to the agent's user ({os.geteuid()})"
        return [fail("state", f"{folder} belongs to user {status.st_uid}", cure)]
    if status.st_mode & 0o077:
        cure = "chmod 700: local Terraform state in it holds secrets"
        return [warn("state", f"others may look into {folder}", cure)]
    return []


def _user_of(lock: Path) -> list[Finding]:
    """Say which process holds the lock, as the kernel tells: trying it would disturb an agent."""
    try:
        status, held = lock.stat(), _LOCKS.read_text()
    except OSError:
        return []  # never used yet, or a system without that list
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    holder = re.search(rf"FLOCK\s+\S+\s+WRITE\s+(\d+)\s+{device}\s", held)
    if holder is None:
        return [ok("state", "no agent uses it at present")]
    return [ok("state", f"an agent is running on it (process {holder[1]})")]
