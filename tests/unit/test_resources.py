"""The files shipped beside the code are found and in order."""

import pytest

from tendril_rt import resources


def test_migrations_are_numbered_from_one_without_a_hole() -> None:
    numbers = [int(path.name.split("_", 1)[0]) for path in resources.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_a_file_is_read_by_its_name_below_sql() -> None:
    first = resources.migrations()[0]
    assert resources.read(f"migrations/{first.name}") == first.read_text(encoding="utf-8")


def test_the_hello_template_is_shipped() -> None:
    assert (resources.templates() / "hello" / "main.tf").is_file()


def test_a_file_that_is_not_shipped_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        resources.read("queries/no_such_query.sql")
