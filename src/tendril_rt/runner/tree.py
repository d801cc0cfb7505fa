"""The files of a template, looked at before Terraform reads them."""

import os
from collections.abc import Iterator
from pathlib import Path

from tendril_rt.errors import GitError
from tendril_rt.model import TemplateSource
from tendril_rt.runner.repository import without_credentials

_PATTERNS = ("*.tf", "*.tf.json", "*.tofu", "*.tofu.json")


def refuse_links_out_of(folder: Path) -> None:
    """Look at every link below *folder*; blocks. Links within it are fine, dangling ones too.

    A ``main.tf`` that is a link to a file of the host would be read by Terraform, and its text
    would come back in an error message.

    :raises GitError: a link leads out of *folder*
    """
    top = os.path.realpath(folder)
    for path in _links_below(top):
        target = os.path.realpath(path)
        if target != top and not target.startswith(f"{top}/"):
            raise GitError(
                f"the template's {os.path.relpath(path, top)!r} is a link that leads out of the "
                "repository: put the file itself there"
            )


def _links_below(folder: str) -> Iterator[str]:
    """Yield every link; a folder's listing says what is one, so no file is looked at."""
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)


def root_module(folder: Path, source: TemplateSource) -> Path:
    """Return the folder that Terraform runs in.

    :raises GitError: ``template_source.path`` is no folder below *folder* with Terraform files
    """
    try:
        root = (folder / source.path).resolve()
        is_folder = root.is_dir()
    except (OSError, RuntimeError, ValueError) as exc:  # too long, a link to itself, or with a NUL
        raise GitError(f"template_source.path {source.path[:100]!r} is no path: {exc}") from exc
    if not root.is_relative_to(folder.resolve()):
        raise GitError(f"template_source.path {source.path!r} leads out of the repository")
    if not is_folder:
        raise GitError(
            f"template_source.path {source.path!r} is no folder of "
            f"{without_credentials(source.repo)} at {source.version}"
        )
    if not any(any(root.glob(pattern)) for pattern in _PATTERNS):
        raise GitError(
            f"{without_credentials(source.repo)} at {source.version} has no Terraform files in "
            f"{source.path or 'its top folder'}: set template_source.path"
        )
    return root
