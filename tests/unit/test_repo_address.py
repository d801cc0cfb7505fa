"""Which repositories and versions may be fetched; what is shown of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tendril_rt.errors import GitError
from tendril_rt.runner.repository import (
    Login,
    Remote,
    checked_repo,
    checked_version,
    without_credentials,
)


@pytest.mark.parametrize(
    "repo",
    [
        "https://github.com/acme/templates.git",
        "https://user:token@git.example.com:8443/t",
        "ssh://git@github.com/acme/templates.git",
        "ssh://git@example.com:2222/t.git",
        "git@github.com:acme/templates.git",
        "deploy-key_1@git.example.com:~/t.git",
        "https://[2001:db8::1]/t.git",
    ],
)
@pytest.mark.parametrize("allow_file", [False, True])
def test_https_and_ssh_addresses_pass_as_they_are(repo: str, allow_file: bool) -> None:
    assert checked_repo(repo, allow_file=allow_file) == repo


@pytest.mark.parametrize(
    "repo",
    [
        "",
        "-",
        "--upload-pack=touch${IFS}x",
        "--upload-pack=x https://example.com/t",
        "-oProxyCommand=x@example.com:t",
        "ext::sh -c whoami",
        "ext::sh",
        "ext::a@b:c",
        "a@ext::sh",
        "fd::3",
        "http://example.com/t.git",
        "git://example.com/t.git",
        "ftp://example.com/t.git",
        "https::https://example.com/t",
        "https://",
        "https:///t.git",
        "https:example.com/t",
        "ssh://-oProxyCommand=x/t",
        "ssh://git@-oProxyCommand=x/t",
        "git@-oProxyCommand=x:t",
        "/srv/templates",
        "./templates",
        "../templates",
        "example.com:t.git",
        "https://example.com/t\n--upload-pack=x",
        "https://example.com/a b",
        "https://example.com/\x00",
        "\thttps://example.com/t",
        "https://example.com/t\x7f",
    ],
)
@pytest.mark.parametrize("allow_file", [False, True])
def test_options_and_other_transports_are_refused(repo: str, allow_file: bool) -> None:
    with pytest.raises(GitError, match=r"template_source\.repo"):
        checked_repo(repo, allow_file=allow_file)


@pytest.mark.parametrize(
    "repo", ["ssh://-oProxyCommand=x@example.com/t", "git@example.com:--upload-pack=x"]
)
def test_an_option_in_the_place_of_a_user_or_a_path_is_refused(repo: str) -> None:
    with pytest.raises(GitError):
        checked_repo(repo, allow_file=False)


@pytest.mark.parametrize(
    ("repo", "said"),
    [
        ("ssh://git:hunter22@example.com/t", "TENDRIL_GIT_SSH_KEY_FILE"),
        ("https://example.com/t?private_token=hunter22", "goes on with ? or #"),
        ("https://example.com/t#hunter22", "goes on with ? or #"),
        ("https://user:hunter22%0ahost=evil@example.com/t", "control character"),
        ("https://user%00:hunter22@example.com/t", "control character"),
    ],
)
def test_a_credential_where_others_would_see_it_is_refused(repo: str, said: str) -> None:
    with pytest.raises(GitError, match=r"template_source\.repo") as refused:
        checked_repo(repo, allow_file=False)
    assert said in str(refused.value)
    assert "hunter22" not in str(refused.value)


@pytest.mark.parametrize(
    ("repo", "url", "login"),
    [
        ("https://a:b@example.com:8443/t", "https://example.com:8443/t", Login("a", "b")),
        ("https://a%40c:p%2Fq@example.com/t", "https://example.com/t", Login("a@c", "p/q")),
        ("https://token@example.com/t", "https://example.com/t", Login("token", "")),
        ("https://example.com/t", "https://example.com/t", None),
        ("ssh://git@example.com/t", "ssh://git@example.com/t", None),
    ],
)
def test_a_login_is_taken_out_of_the_address(repo: str, url: str, login: Login | None) -> None:
    assert Remote.of(repo) == Remote(url, login)


@pytest.mark.parametrize("repo", ["https://[x/t", "https://a]b/t", "https://a\u2100b/t"])
def test_an_address_that_is_no_url_at_all_is_refused(repo: str) -> None:
    with pytest.raises(GitError, match=r"template_source\.repo"):
        checked_repo(repo, allow_file=False)


def test_the_agents_own_disk_is_refused_unless_it_is_allowed() -> None:
    with pytest.raises(GitError, match="TENDRIL_ALLOW_FILE_REPOS"):
        checked_repo("file:///srv/t", allow_file=False)
    assert checked_repo("file:///srv/t", allow_file=True) == "file:///srv/t"


@pytest.mark.parametrize(
    "version",
    ["v1.2.0", "main", "feature/vpc", "release-2026.1", "1", "a" * 40, "dependabot/npm/@types"],
)
def test_tags_branches_and_commits_pass_as_they_are(version: str) -> None:
    assert checked_version(version) == version


@pytest.mark.parametrize(
    "version",
    [
        "",
        "--orphan=zz",
        "-b",
        "--",
        "+main",
        "main:refs/heads/x",
        "main..other",
        "v1^{}",
        "HEAD~1",
        "main@{1}",
        "a b",
        "main\n",
        "a\x00b",
        "a*",
        "a?",
        "[a]",
        "a\\b",
        "main/",
        "main.",
        "main.lock",
        "/main",
        ".hidden",
        "a" * 256,
        "větev",
    ],
)
def test_what_git_could_read_as_something_else_is_no_version(version: str) -> None:
    with pytest.raises(GitError, match=r"template_source\.version"):
        checked_version(version)


@given(st.text(max_size=30))
def test_no_version_that_passes_begins_like_an_option_or_holds_a_space(version: str) -> None:
    try:
        passed = checked_version(version)
    except GitError:
        return
    assert passed[0].isalnum() or passed[0] == "_"
    assert not any(character.isspace() for character in passed)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:token@example.com/t", "https://***@example.com/t"),
        ("https://token@example.com/t", "https://***@example.com/t"),
        ("https://example.com/t", "https://example.com/t"),
        ("https://example.com/a@b", "https://example.com/a@b"),
        ("git@github.com:acme/t.git", "git@github.com:acme/t.git"),
        (
            "fatal: 'https://a:b@x.org/' and 'https://c:d@y.org/'",
            "fatal: 'https://***@x.org/' and 'https://***@y.org/'",
        ),
    ],
)
def test_credentials_of_every_url_are_hidden_and_nothing_else_is(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_a_password_with_an_at_sign_is_hidden_whole() -> None:
    assert without_credentials("https://user:p@ss@example.com/t") == "https://***@example.com/t"


@pytest.mark.parametrize(
    "repo", ["http://user:hunter22@example.com/t", "https://user:hunter22@example.com/a b"]
)
def test_a_refusal_shows_no_credential(repo: str) -> None:
    with pytest.raises(GitError) as refused:
        checked_repo(repo, allow_file=False)
    assert "hunter22" not in str(refused.value)
