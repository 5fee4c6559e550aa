"""Step 7: what is served is what was installed. The server's own handshake decides; the other views inform."""

from runbook_lib.models import ChangeFolder, Check, Command, Facts, Served, Verdict
from runbook_lib.parameters import Parameters
from runbook_lib.state import same_files
from runbook_lib.steps.folder import folder_of

SOURCE = "vendor's step 7"
VIEWS = {"server": "on the server", "direct": "from here", "ssh": "through the SSH connection"}
HTTP_OK = 200


def plan(parameters: Parameters, change_id: str) -> tuple[Command, ...]:
    """The confirm, which disarms the guard."""
    folder = folder_of(parameters, change_id)
    return (
        Command(
            "keep the new pair, disarm the guard",
            f"sh {folder}/guard.sh confirm",
            undo=f"sh {folder}/guard.sh restore",
            time_limit_s=90,
        ),
    )


def checks(before: Facts, after: Facts, change_id: str, api_status: int | None) -> tuple[Check, ...]:
    """Every judgement after the restart.

    Args:
        before: Facts from before the swap.
        after: Facts from now, with handshakes from every vantage point that was tried.
        change_id: The change.
        api_status: What `GET /api/version` answered; None where it could not be asked.
    """
    change = after.change(change_id)
    return (
        *(_served(each, change) for each in after.served),
        *_nothing_listens(after),
        *_untouched(before, after, change),
        _api(api_status),
    )


def _served(seen: Served, change: ChangeFolder) -> Check:
    installed = tuple(each.pem.strip() for each in change.staged.chain)
    sent = tuple(
        dict.fromkeys(each.strip() for each in seen.chain)
    )  # a file may hold one twice, and nginx sends it twice
    decides = seen.vantage == "server"
    if sent and sent == installed:
        verdict, found = Verdict.PASS, f"the same, {seen.protocol}"
    elif not sent:
        verdict, found = Verdict.FAIL if decides else Verdict.UNKNOWN, seen.error
    else:
        verdict = Verdict.FAIL if decides else Verdict.WARN
        found = "another certificate" if sent[:1] != installed[:1] else "another chain"
    todo = {
        Verdict.FAIL: "the old pair is put back by itself; look at nginx's log",
        Verdict.WARN: "something between here and the server answers with a certificate of its own: a proxy or another node",
        Verdict.UNKNOWN: "look from a place that reaches it",
    }
    question = f"Does {seen.address} serve leaf and chain as installed, seen {VIEWS[seen.vantage]}?"
    return Check(question, f"{len(installed)} certificates as staged", found, verdict, SOURCE, todo.get(verdict, ""))


def _nothing_listens(after: Facts) -> tuple[Check, ...]:
    if any(each.vantage == "server" for each in after.served):
        return ()
    return (Check("Does nginx answer on the server?", "a handshake at each service address", "nothing listens", Verdict.FAIL,
                  SOURCE, "the old pair is put back by itself; look at nginx's log"),)  # fmt: skip


def _untouched(before: Facts, after: Facts, change: ChangeFolder) -> tuple[Check, ...]:
    pair = {"nginx.crt", "nginx.key"}
    was, now = ({each.name: each for each in facts.conf_files} for facts in (before, after))
    odd = sorted(name for name in was.keys() | now.keys() if name not in pair and was.get(name) != now.get(name))
    moved = sorted(name for name in pair if _owner(was.get(name)) != _owner(now.get(name)))
    live = same_files(after.live, change.staged)
    return (
        Check("Is the installed pair the live pair?", "the staged files, byte for byte", "the same" if live else "different",
              Verdict.PASS if live else Verdict.FAIL, SOURCE, "" if live else "the old pair is put back by itself"),
        Check("Is everything else in conf_dir as it was?", "nginx.conf and the listing unchanged", ", ".join(odd) or "unchanged",
              Verdict.WARN if odd else Verdict.PASS, "vendor's step 2", "look at the files named: this run did not write them" if odd else ""),
        Check("Have the pair's files kept owner and mode?", "the same as before", ", ".join(moved) or "the same",
              Verdict.FAIL if moved else Verdict.PASS, "vendor's step 2", "the old pair is put back by itself" if moved else ""),
    )  # fmt: skip


def _owner(entry: object) -> tuple[str, ...]:
    return tuple(getattr(entry, name, "") for name in ("mode", "owner", "group"))


def _api(status: int | None) -> Check:
    question, expected = "Does the API answer?", "GET /api/version: 200"
    if status is None:
        return Check(
            question,
            expected,
            "could not be asked",
            Verdict.UNKNOWN,
            "REST API",
            "ask it from a place that reaches the server",
        )
    good = status == HTTP_OK
    return Check(question, expected, str(status), Verdict.PASS if good else Verdict.WARN, "REST API",
                 "" if good else "503 and 502 mean it is still starting; else look at `service aos status`")  # fmt: skip
