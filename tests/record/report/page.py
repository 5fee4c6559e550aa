"""Records written as runs write them, and the page that is made of them, read as a browser reads it."""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

from runbook_lib.models import Certificate
from runbook_lib.record.archive import Record, open_record
from runbook_lib.record.report import render
from tests.pki.authority import issue

CHANGE = "20260601T120000Z-1a2b3c"
FOLDER = f"/var/lib/apstra-runbook/changes/{CHANGE}"
WAY_BACK = f"ssh -t admin@apstra sudo sh {FOLDER}/restore.sh"
BEFORE = issue("apstra.example.com", days=30).certificate
AFTER = issue("apstra.example.com", san=["DNS:apstra.example.com", "IP:192.0.2.11"]).certificate
KEY = "0d957d81" * 8
PROBES = {"outage_ms": 165.0, "samples": 1026}
# purpose, step, script, undo; what its result is: exit status and seconds
COMMANDS = {
    "put the guard in place": ("install", f"cd {FOLDER} && cat >guard.sh", "rm guard.sh", (0, 0.021)),
    "arm the guard: the old pair comes back in 300 s unless confirmed": ("install", "sh guard.sh arm 300", "sh guard.sh restore", (0, 0.06)),
    "swap the pair": ("install", "sh guard.sh swap", "sh guard.sh restore", (0, 0.11)),
    "restart nginx": ("install", "docker restart aos_nginx_1", "sh guard.sh restore", (0, 1.2345)),
    "keep the new pair, disarm the guard": ("confirm", "sh guard.sh confirm", "sh guard.sh restore", (0, 0.03)),
}  # fmt: skip
OWN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "main", "footer", "nav", "section", "h1", "h2", "h3", "h4", "p", "span", "code", "pre",
    "a", "ul", "ol", "li", "dl", "dt", "dd", "div", "table", "caption", "thead", "tbody", "tr", "th", "td", "details", "summary", "figure", "figcaption", "img", "br",
}  # fmt: skip
OWN_ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "class", "id", "href", "scope", "role", "data-label", "aria-label", "tabindex", "open", "src", "alt",
}  # fmt: skip


class Page(HTMLParser):
    """A page in its parts: tags, attributes, links, headings and text; what stands outside an element is lost."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html, self.text = html, ""
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.declared: list[str] = []
        self._within: list[str] = []
        self.feed(html)
        self.close()

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.tags if tag == "a"]

    @property
    def title(self) -> str:
        (found,) = re.findall(r"<h1>(.*?)</h1>", self.html)
        return str(found)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._within and self._within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" not in self._within:
            self.text += data

    def handle_decl(self, decl: str) -> None:
        self.declared.append(decl)

    def handle_comment(self, data: str) -> None:
        self.declared.append(data)

    def handle_pi(self, data: str) -> None:
        self.declared.append(data)

    def assert_inert(self) -> None:
        """Nothing in it but what this page is made of; nothing acts, nothing loads, and no text hides or turns another."""
        assert {tag for tag, _ in self.tags} <= OWN_TAGS
        assert {name for _, attributes in self.tags for name in attributes} <= OWN_ATTRIBUTES
        assert self.declared == ["doctype html"]
        assert [tag for tag, _ in self.tags].count("style") == 1
        assert not [each for each in self.links if not re.fullmatch(r"#[a-z]+|[A-Za-z0-9_.~/%-]+", each)]
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]", self.html)
        (style,) = re.findall(r"<style>(.*?)</style>", self.html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        policy = next(each["content"] for _, each in self.tags if each.get("http-equiv") == "Content-Security-Policy")
        pictures = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        assert not [
            each for each in pictures if not re.fullmatch(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/]+=*", each)
        ]
        images = " img-src data:;" if "<img" in self.html or "<figure" in self.html else ""
        assert policy == f"default-src 'none'; style-src 'sha256-{digest}';{images} base-uri 'none'; form-action 'none'"


def page_of(folder: Path, sealing: str = "not sealed: no signing_key was given") -> Page:
    """The page of a record, which is inert whatever the record holds."""
    page = Page(render(folder, sealing))
    page.assert_inert()
    return page


def recorded(records: Path, write: Callable[[Record], None]) -> Path:
    """A record's folder with what `write` wrote."""
    record = open_record(records, CHANGE, str)
    write(record)
    record.journal.close()
    return record.folder


def begun(record: Record, notebook: str = "install", **more: object) -> None:
    """A run's first event."""
    who = {"host": "apstra", "operator": "ada", "ticket": "CHG-1", "reason": "it runs out", "apply": True}
    record.journal.write("run", notebook=notebook, version="0.1.0", **{**who, **more})


def ended(record: Record, outcome: str, what: str = "") -> None:
    """A run's last event."""
    record.journal.write("end", outcome=outcome, what=what, todo="")


def certificate(record: Record, role: str, found: Certificate, *, keep: bool = True) -> None:
    """A certificate as a run notes it, and its file."""
    dates = {name: getattr(found, name).isoformat() for name in ("not_before", "not_after")}
    leaf = {name: value for name, value in asdict(found).items() if name != "pem"}
    record.journal.write("certificate", role=role, **(leaf | dates))
    if keep:
        record.add_file(f"certificate-{role}.pem", found.pem.encode())


def check(question: str, verdict: str = "pass", **more: str) -> dict[str, str]:
    """One check as it is noted."""
    return {"question": question, "expected": "yes", "found": "yes", "verdict": verdict, "source": "RFC 5280", "todo": "", **more}  # fmt: skip


def checks(record: Record, step: str, *found: dict[str, str]) -> None:
    """The checks of a step."""
    record.journal.write("checks", step=step, checks=list(found))


def planned(record: Record) -> None:
    """A run up to its plan."""
    begun(record)
    certificate(record, "before", BEFORE)
    record.journal.write("facts", hostname="aos-server", state="ready", host_key="SHA256:abc", os="Ubuntu 22.04", apstra_version='{"version": "4.2.0"}',
                         container={"name": "aos_nginx_1", "status": "running"})  # fmt: skip
    checks(record, "check", *(check(f"Is question {number} answered?") for number in range(19)))
    listed = [
        {"step": step, "purpose": purpose, "script": script, "undo": undo, "stdin": "the guard's text" if "put" in purpose else ""}
        for purpose, (step, script, undo, _) in COMMANDS.items()
    ]  # fmt: skip
    record.journal.write("plan", name="install", sha256="f" * 64, way_back=WAY_BACK, commands=listed)


def intent(record: Record, purpose: str) -> None:
    """A command of the plan, begun."""
    step, script, undo, _ = COMMANDS[purpose]
    record.journal.write("intent", step=step, purpose=purpose, script=script, undo=undo)


def ran(record: Record, purpose: str, status: int | None = None) -> None:
    """A command of the plan, begun and ended."""
    intent(record, purpose)
    step, _, _, (good, seconds) = COMMANDS[purpose]
    status = good if status is None else status
    record.journal.write("result", step=step, purpose=purpose, status=status, duration_s=seconds, stderr="nginx: ok\n")


def armed(record: Record) -> None:
    """A run whose guard is armed."""
    planned(record)
    record.journal.write("compare", digests=[[name, KEY, KEY] for name in ("nginx.key", "nginx.csr", "nginx.crt")])
    for purpose in list(COMMANDS)[:2]:
        ran(record, purpose)


def confirmed(record: Record) -> None:
    """A run whose confirm came back well."""
    armed(record)
    for purpose in list(COMMANDS)[2:4]:
        ran(record, purpose)
    record.journal.write("probe", **PROBES)
    checks(record, "confirm", *(check(f"Is {number} served?") for number in range(7)))
    ran(record, list(COMMANDS)[4])


def done(record: Record) -> None:
    """A run to its end."""
    confirmed(record)
    certificate(record, "after", AFTER)
    record.journal.write("guard", lines=["2026-06-01T12:00:09Z confirmed"])
    ended(record, "done")


def rolled_back(record: Record) -> None:
    """A run whose new pair did not stay."""
    armed(record)
    ran(record, "swap the pair")
    ran(record, "restart nginx", 1)
    record.journal.write("note", text="rolling back: restart nginx failed")
    record.journal.write(
        "intent",
        step="roll back",
        purpose="roll back: the old pair comes back",
        script="sh guard.sh roll-back",
        undo="",
    )
    record.journal.write(
        "result", step="roll back", purpose="roll back: the old pair comes back", status=0, duration_s=0.7, stderr=""
    )
    record.journal.write("guard", lines=["2026-06-01T12:00:09Z rolled back: restart nginx failed"])
    ended(record, "rolled-back", "the old pair is serving again\nserver: apstra\nwhy: restart nginx failed")


def refused(record: Record) -> None:
    """A run that a check stopped."""
    begun(record)
    certificate(record, "before", BEFORE)
    odd = (
        check("Is it open?", "warn"),
        check("Is it known?", "unknown"),
        check("Is it whole?", "fail", found="torn", todo="mend it", source="vendor's step 5"),
    )
    checks(record, "check", check("Is it there?"), *odd)
    ended(record, "refused", "1 check failed")
