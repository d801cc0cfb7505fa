"""Who may do what: every privilege and every function of every role, against files in this folder.

Supabase's default privileges are in force here: what a migration forgets to revoke shows up.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tendril_rt import resources

from .sql_support import Connection, privileges, scenarios

pytestmark = pytest.mark.integration
pytest_plugins = ["tests.integration.sql_fixtures"]

_PRIVILEGES = Path(__file__).with_name("privileges.txt")
_ACCESS = Path(__file__).with_name("sql_access.txt")
_ROLES = ("anon", "authenticated", "service_role")
_SCENARIOS_AT_LEAST = 2


def test_privileges_are_those_in_the_file(admin: Connection) -> None:
    assert privileges(admin) == _PRIVILEGES.read_text().splitlines()


def test_the_roles_may_be_made_again(admin: Connection) -> None:
    admin.execute(resources.read("embedded/supabase.sql").encode())
    assert privileges(admin) == _PRIVILEGES.read_text().splitlines()


def test_each_function_lets_in_the_roles_in_the_file(admin: Connection) -> None:
    """Each is really called, by each role; a new function must get a row."""
    table = [_row("function", *_ROLES)]
    for name, call in _functions(admin):
        answers = [_answer(admin, role, call) for role in _ROLES]
        table.append(_row(name, *answers))
    print(*table, sep="\n")
    expected = _ACCESS.read_text().splitlines()
    assert table == expected, f"if this is meant, change {_ACCESS.name}"


def _row(name: str, *answers: str) -> str:
    return " ".join([f"{name:<40}", *(f"{answer:<13}" for answer in answers)]).rstrip()


def _functions(admin: Connection) -> Iterator[tuple[str, bytes]]:
    """Yield each function's name and a call of it with nulls, which is refused early or harmless.

    Those of triggers cannot be called.
    """
    rows = admin.execute(
        b"select p.oid::regproc::text as name, array(select format('%s::%s', case"
        b"   when not p.proisstrict then 'null'"
        b"   when t.type = 'jsonb'::regtype then quote_literal('{}')"
        b"   else quote_literal('') end, t.type::regtype)"
        b"   from unnest(p.proargtypes) with ordinality as t (type, n) order by n) as nulls"
        b" from pg_proc p where p.prorettype <> 'trigger'::regtype and p.pronamespace in"
        b"   ('public'::regnamespace, 'tendril_private'::regnamespace)"
        b" order by p.pronamespace::regnamespace::text, p.proname, p.oid"
    ).fetchall()
    for row in rows:
        name = row["name"] if "." in row["name"] else f"public.{row['name']}"
        yield name, f"select * from {name}({', '.join(row['nulls'])})".encode()


def _answer(admin: Connection, role: str, call: bytes) -> str:
    claims = f'{{"role": "{role}", "sub": "a11ce000-0000-4000-8000-000000000001"}}'
    with admin.transaction(force_rollback=True):
        admin.execute(b"select set_config('request.jwt.claims', %s, true)", (claims,))
        admin.execute(f"set local role {role}".encode())
        try:
            with admin.transaction():
                admin.execute(call)
        except psycopg.errors.InsufficientPrivilege:
            return "refused"
        except psycopg.Error as refusal:
            if (refusal.sqlstate or "")[:2] not in {"PT", "P0", "22", "23"}:
                raise  # the call itself was wrong
    return "allowed"


def test_each_function_of_the_api_has_scenarios(admin: Connection) -> None:
    tried = [scenario.sql for scenario in scenarios()]
    shorthands = {
        "fetch_next_provision": "tests.claim(",
        "agent_heartbeat": "tests.beat(",
        "insert_provision_logs": "tests.log(",
        "update_provision_status": "tests.report(",
    }
    few = []
    for name, _ in _functions(admin):
        schema, _, function = name.partition(".")
        if schema == "public":
            words = (f"{function}(", shorthands.get(function, f"{function}("))
            count = sum(any(word in sql for word in words) for sql in tried)
            few += [name] if count < _SCENARIOS_AT_LEAST else []
    assert few == []


def test_each_audited_action_is_listed_where_it_is_described(admin: Connection) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in resources.migrations())
    written = re.findall(r"perform tendril_private\.audit(?:_system)?\('(\w+)'", text)
    row = admin.execute(
        b"select col_description(attrelid, attnum) as comment from pg_attribute"
        b" where attrelid = 'public.audit_events'::regclass and attname = 'action'"
    ).fetchone()
    assert row is not None
    listed = re.findall(r"\w+", row["comment"].partition(":")[2])
    assert sorted(listed) == sorted(set(written))


def test_everything_is_commented(admin: Connection) -> None:
    assert admin.execute(resources.read("tests/uncommented.sql").encode()).fetchall() == []
