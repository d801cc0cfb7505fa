"""``docs/grape.md``: every command of grape with a transcript that was really seen.

``python -m tests.integration.render_grape > docs/grape.md`` runs the commands against a fresh
control plane with a real agent; a test runs them again and compares. What is never the same twice
(ids, tokens, times, addresses) is given one form first, and of Terraform's own output only the
template's words stay.
"""

import json
import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from tendril_rt.control.owner import Registration
from tendril_rt.model import ClusterId
from tests.conftest import RunningPlane

from .agents import Fleet, snapshot, template_repo
from .grape_support import Grape, new_grape

COMMAND = "python -m tests.integration.render_grape > docs/grape.md"

_HEAD = Path(__file__).with_name("grape_page_head.md")

_WIDTH = 100
_UUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_ALWAYS = (
    (r"tendril_[0-9a-f]{64}", "tendril_6b2f9f0c…"),
    (r"\b[0-9a-f]{40}\b", "796c789f0d5c404d8e2e8ed168bdcaa34a2d3242"),
    (r"\b[0-9a-f]{12}@example\.com", "you@example.com"),
    (r"(?<![-0-9a-f])[0-9a-f]{12}(?![-0-9a-f])", "3f9a1c0b7d52"),
    (r"http://127\.0\.0\.1:\d+", "https://acme.supabase.co"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", "2026-01-02T03:04:05.678901+00:00"),
    (r"\b\d+ (s|min) ago", "3 s ago"),
    (r"\b\d+(\.\d+)? s\b(?! ago)", "1 s"),
    (r"file://\S*?/templates\b", "https://git.example.com/templates"),
    (r", by \S+", ", by agent-0"),
    (r"(?m)^● queued\n", ""),  # it may have been claimed before the first look
    (r"(?m)^[\w+/-]{43}=?$", "<public key>"),
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "<anon key>"),
)
_OF_THE_AGENT = re.compile(
    r"provision |cloning |template v1|terraform \w+( …|: done)|SUCCESS after"
    r"|.*\(local-exec\): hello"
)


class Page:
    """Runs commands and writes them down.

    :ivar grape: of a user who has nothing yet
    :ivar folder: for the files that the commands name
    """

    def __init__(self, grape: Grape, folder: Path) -> None:
        self.grape = replace(grape, cwd=folder)
        self.folder = folder
        self._blocks = [_HEAD.read_text(encoding="utf-8")]
        self._ids: dict[str, str] = {}

    @property
    def text(self) -> str:
        """The page so far."""
        return "\n".join(self._blocks).rstrip() + "\n"

    def say(self, text: str) -> None:
        """Add titles and paragraphs, wrapped here."""
        for paragraph in text.split("\n\n"):
            lines = textwrap.wrap(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
            self._blocks.append("\n".join(lines) + "\n")

    def show(
        self, *lines: str, code: int = 0, stdin: str = "", is_log: bool = False, **extra: str
    ) -> None:
        """Run each of *lines* and add what was seen.

        :param code: that the last one ends with
        :param is_log: shorten what Terraform printed
        """
        shown = []
        for line in lines:
            command, _, redirected = line.partition(" < ")
            ran = self.grape(*command.split()[1:], stdin=stdin, **extra)
            assert ran.code == (code if line == lines[-1] else 0), (line, ran)
            seen = _shortened(ran.both) if is_log else ran.both
            shown.append(f"$ {command}{f' < {redirected}' if redirected else ''}\n{seen}")
            if ran.code:
                shown.append(f"$ echo $?\n{ran.code}\n")
        self._blocks.append(f"```console\n{self.normal(''.join(shown))}```\n")

    def normal(self, text: str) -> str:
        """Return *text* with one form for what is never the same."""
        for pattern, form in _ALWAYS:
            text = re.sub(pattern, form, text)

        def numbered(found: "re.Match[str]") -> str:
            number = len(self._ids) + 1
            return self._ids.setdefault(found[0], f"{number:08x}-0000-4000-8000-{number:012x}")

        return _UUID.sub(numbered, text)


def _shortened(text: str) -> str:
    """Return the lines of grape, of the agent and of the template; […] for those between."""
    kept: list[str] = []
    for line in text.splitlines():
        is_ours = line.startswith(("queued", "● ")) or _OF_THE_AGENT.match(line)
        if is_ours:
            kept.append(line)
        elif kept[-1:] != ["[…]"]:
            kept.append("[…]")
    return "\n".join(kept) + "\n"


def same(text: str) -> str:
    """Return *text* as pages are compared: how far columns stand apart depends on the seconds."""
    return re.sub(r" {2,}", "  ", text)


def grape_page(plane: RunningPlane, folder: Path) -> str:
    """Return the whole page, seen through *plane* just now."""
    page = Page(new_grape(plane, folder / "config"), folder)
    _sessions(page)
    _clusters(page)
    _configurations(page)
    _provisions(page)
    _rest(page)
    return page.text


def _sessions(page: Page) -> None:
    grape = page.grape
    page.say(
        "## Signing in\n\n"
        "The project's URL and key are named once and remembered; the password is asked for, "
        "or read from stdin. The session is renewed by itself, also by several grapes at "
        "once."
    )
    page.show(
        f"grape login {grape.email} --url {grape.plane.url} --key {grape.plane.anon_key} "
        "--password-stdin < password",
        "grape whoami",
        stdin=grape.password,
    )


def _clusters(page: Page) -> None:
    page.say(
        "## Clusters\n\n"
        "A cluster is where agents run. Its token is shown once; with `--json`, stdout holds "
        "it alone."
    )
    page.show("grape clusters list", "grape clusters add laptop", "grape clusters list")
    page.show("grape clusters set laptop --max-concurrency 2", "grape clusters show laptop")
    page.say(
        "To replace a token without a pause: make a second one, give it to the agents, revoke "
        "the first (or let it end by itself: `--old-expires-in HOURS`)."
    )
    page.show("grape clusters rotate-token laptop")
    tokens = page.grape("clusters", "show", "laptop", "--json").json
    assert isinstance(tokens, dict)
    page.show(f"grape clusters revoke-token {tokens['tokens'][0]['id']}")
    page.show("grape clusters show nowhere", code=1)


def _configurations(page: Page) -> None:
    repo = template_repo(page.folder / "templates")
    (page.folder / "hello.json").write_text(json.dumps(snapshot(repo), indent=2) + "\n")
    page.say(
        "## Configurations\n\n"
        "A saved configuration has a name, and its id names the Terraform state. JSON goes "
        "both ways as text: no digit of a number is lost. `edit` opens `$EDITOR`, checks what "
        "comes back, and keeps your text where it is refused."
    )
    page.show("grape config save hello hello.json", "grape config list", "grape config get hello")
    page.show("grape config edit hello", EDITOR='sed -i \'s/"test"/"world"/\'')
    (page.folder / "bad.json").write_text('{"template_source": {"repo": "https://example.com/x"}}')
    page.show("grape config save bad bad.json", code=1)


def _provisions(page: Page) -> None:
    page.say(
        "## Provisions\n\n"
        "`deploy` queues what a file or a saved configuration says. Alone it answers the id "
        "at once; `--wait` waits with progress, `--follow` prints the log too: on stdout "
        "exactly what is stored, byte for byte. Ctrl-C only detaches. `--plan` changes "
        "nothing; `--destroy` asks for the name, or takes it from `--confirm`. `--sign-with` "
        "signs ([signing.md](signing.md))."
    )
    page.show("grape deploy hello.json --plan")
    page.show("grape provisions list")
    queued = page.grape("provisions", "list", "--json").json
    assert isinstance(queued, list)
    page.show(f"grape provisions cancel {queued[0]['id']}", "grape provisions show")
    page.say(
        "`cancel` ends a queued provision at once, and a running one by one interrupt, on "
        "which Terraform saves its state. `--force` interrupts again and then kills: state "
        "may be lost.\n\n"
        "With an agent:"
    )
    with _agent(page):
        page.show("grape deploy hello --follow", is_log=True)
        page.show("grape deploy hello --destroy --confirm hello --wait")
    page.show("grape provisions list --limit 2")
    page.say(
        "## Logs\n\n"
        "The log of a provision, of the newest by default, as it is stored; `-f` until it has "
        "ended, live, and in the order of attempt and chunk whatever the network does. "
        "`--attempt N` shows one attempt, `--json` a chunk a line."
    )
    page.show("grape logs", is_log=True)


@contextmanager
def _agent(page: Page) -> Iterator[None]:
    """Run a real agent of the page's cluster, online, until the block ends."""
    made = page.grape("clusters", "rotate-token", "laptop", "--json").json
    assert isinstance(made, dict)
    cluster = Registration(ClusterId(made["cluster_id"]), made["token"])
    with Fleet(page.grape.plane, cluster, page.folder).agent() as agent:
        anyio.run(agent.says, "online")
        yield


def _rest(page: Page) -> None:
    page.say(
        "## The rest\n\n"
        "`grape keygen FILE` makes a key to sign with; `grape migrate` applies the schema "
        "([migrating.md](migrating.md)); `grape dashboard` serves the dashboard on this "
        "machine ([dashboard.md](dashboard.md)), or writes its files for a static host with "
        '`--export`; `eval "$(grape completion bash)"` completes commands in bash (zsh, '
        "tcsh)."
    )
    page.show("grape keygen deploy.key")
    page.show("grape migrate", GRAPE_DATABASE_URL=page.grape.plane.database_url)
    page.show("grape logout", "grape clusters list", code=4)
