"""What a child process may see of the agent's environment: an allow-list.

The agent's own secrets (``TENDRIL_*``, ``SUPABASE_*``) never reach git, Terraform or a template.
Pure.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

#: Names, with a trailing * for any ending: locale, proxies, trust stores, cloud identities.
_ALLOWED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"),
    *("GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "GIT_ASKPASS", "SSH_AUTH_SOCK"),
    *("AWS_*", "AZURE_*", "ARM_*", "GOOGLE_*", "CLOUDSDK_*", "KUBECONFIG", "KUBE_*"),
    *("KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "VAULT_*"),
    *("TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "TF_LOG", "TF_LOG_*", "TF_REGISTRY_*"),
)
_NEVER = ("TENDRIL_*", "SUPABASE_*")


def child_environment(environ: Mapping[str, str], extra: Sequence[str] = ()) -> dict[str, str]:
    """Return the allowed part of *environ*; *extra* adds names (``TENDRIL_PASS_ENV``)."""
    allowed = (*_ALLOWED, *extra)
    return {
        name: value
        for name, value in environ.items()
        if _matches(name, allowed) and not _matches(name, _NEVER)
    }


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
