"""Each template and module by itself: valid for the real provider, and its own tests pass."""

import re

import pytest

from tendril_rt import resources

from .conftest import Templates

pytestmark = [
    pytest.mark.aws,
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("aws_provider"),
]

_ROOTS = sorted(
    str(tests.parent.relative_to(resources.templates()))
    for tests in resources.templates().rglob("tests")
)


@pytest.mark.parametrize("template", _ROOTS)
def test_it_is_valid_and_its_own_tests_pass(templates: Templates, template: str) -> None:
    done = templates.terraform(template, "init", "-backend=false", "-input=false", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr

    valid = templates.terraform(template, "validate", "-no-color")
    assert valid.returncode == 0, valid.stdout + valid.stderr
    assert "Warning" not in valid.stdout

    tested = templates.terraform(template, "test", "-no-color")
    said = tested.stdout + tested.stderr
    assert tested.returncode == 0, said
    summary = re.search(r"Success! (\d+) passed, 0 failed\.", said)
    assert summary is not None, said
    assert int(summary[1]) > 0
