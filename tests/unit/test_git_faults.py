"""Which errors of git are worth another try; the texts are git's, curl's and ssh's own."""

import pytest

from tendril_rt.runner.git_command import Fault, fault_of

_HTTPS = "fatal: unable to access 'https://example.com/x/': "


@pytest.mark.parametrize(
    "stderr",
    [
        f"{_HTTPS}Could not resolve host: example.com",
        f"{_HTTPS}Failed to connect to example.com port 443 after 3 ms: Connection refused",
        f"{_HTTPS}Failed to connect to example.com port 443: Couldn't connect to server",
        f"{_HTTPS}The requested URL returned error: 503",
        f"{_HTTPS}The requested URL returned error: 429",
        f"{_HTTPS}Recv failure: Connection reset by peer",
        f"{_HTTPS}Operation timed out after 60001 milliseconds with 0 bytes received",
        f"{_HTTPS}Operation too slow. Less than 1 bytes/sec transferred the last 60 seconds",
        f"{_HTTPS}Empty reply from server",
        f"{_HTTPS}OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to example.com:443",
        f"{_HTTPS}GnuTLS recv error (-110): The TLS connection was non-properly terminated.",
        "error: RPC failed; curl 56 GnuTLS recv error (-54): Error in the pull function.",
        "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF",
        "fatal: the remote end hung up unexpectedly",
        "ssh: Could not resolve hostname example.com: Temporary failure in name resolution",
        "ssh: connect to host example.com port 22: Connection timed out",
        "kex_exchange_identification: Connection closed by remote host",
        "ssh: connect to host example.com port 22: No route to host",
    ],
)
def test_the_network_and_the_server_may_recover(stderr: str) -> None:
    assert fault_of(stderr) is Fault.TRANSIENT


@pytest.mark.parametrize(
    "stderr",
    [
        "fatal: Authentication failed for 'https://example.com/x/'",
        "fatal: could not read Username for 'https://example.com': terminal prompts disabled",
        "remote: Repository not found.\nfatal: repository 'https://example.com/x/' not found",
        f"{_HTTPS}The requested URL returned error: 403",
        f"{_HTTPS}The requested URL returned error: 404",
        f"{_HTTPS}server certificate verification failed. CAfile: none CRLfile: none",
        f"{_HTTPS}SSL certificate problem: unable to get local issuer certificate",
        "fatal: couldn't find remote ref refs/heads/x",
        "remote error: upload-pack: not our ref 01\nfatal: the remote end hung up unexpectedly",
        "git@example.com: Permission denied (publickey).\r\nfatal: Could not read from remote",
        "Host key verification failed.\r\nfatal: Could not read from remote repository.",
        "fatal: transport 'ext' not allowed",
        "fatal: '/x' does not appear to be a git repository",
    ],
)
def test_a_refusal_stays_one(stderr: str) -> None:
    assert fault_of(stderr) is Fault.REFUSED


@pytest.mark.parametrize(
    "stderr",
    [
        "fatal: bad config line 1 in file config",
        "error: object file objects/ab/cd is empty\nfatal: loose object abcd is corrupt",
        "fatal: unable to create 'x/shallow.lock': File exists.",
        "fatal: write error: No space left on device",
        "",
    ],
)
def test_anything_else_may_be_what_is_kept(stderr: str) -> None:
    assert fault_of(stderr) is Fault.OTHER
