"""What a bootstrap writes down for the run after it."""

import stat
from pathlib import Path

import pytest

from tendril_rt.bootstrap.journal import opened
from tendril_rt.errors import ConfigError


def test_the_last_fact_of_a_name_counts_in_the_next_run_too(tmp_path: Path) -> None:
    folder = tmp_path / "acme"
    with opened(folder) as journal:
        journal.note(account="1", region="eu-north-1")
        journal.note(account="2")
    with opened(folder) as journal:
        assert journal.fact("account") == "2"
        assert journal.fact("region") == "eu-north-1"
        assert journal.fact("cluster_id") is None


def test_what_is_known_is_not_written_again(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.note(account="1")
        before = (tmp_path / "journal.jsonl").read_bytes()
        journal.note(account="1")
        assert (tmp_path / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("torn", [b'{"facts": {"acc', b'{"facts": {"account": "1"}}', b"\xff\n"])
def test_a_line_that_a_crash_cut_short_spoils_nothing(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "journal.jsonl").write_bytes(b'{"facts": {"region": "eu-north-1"}}\n' + torn)
    with opened(tmp_path) as journal:
        journal.note(cluster_id="7")
    with opened(tmp_path) as journal:
        assert journal.fact("region") == "eu-north-1"
        assert journal.fact("cluster_id") == "7"


def test_it_is_its_owners_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "acme") as journal:
        journal.step("identity", "begun")
    assert stat.S_IMODE((tmp_path / "acme").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "acme" / "journal.jsonl").stat().st_mode) == 0o600


def test_two_bootstraps_of_one_name_do_not_run_at_once(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(ConfigError, match="another grape"), opened(tmp_path):
        pass


def test_forgotten_it_begins_anew_and_the_old_one_is_kept(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.note(cluster_id="7", account="1")
        journal.forget(but=("cluster_id",))
        assert journal.fact("account") is None
    with opened(tmp_path) as journal:
        assert journal.fact("account") is None
        assert journal.fact("cluster_id") == "7"
    assert "7" in (tmp_path / "journal.destroyed.jsonl").read_text()
