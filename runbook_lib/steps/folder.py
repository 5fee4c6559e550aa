"""The change's own folder on the server."""

import json
import shlex
from collections.abc import Sequence

from runbook_lib.models import CertificateRequest, Command, Facts
from runbook_lib.parameters import Parameters


def folder_of(parameters: Parameters, change_id: str) -> str:
    """The absolute path of a change's folder."""
    return f"{parameters.state_dir}/changes/{change_id}"


def request_record(request: CertificateRequest) -> dict[str, object]:
    """What is asked of the CA, as it is kept on the server to be compared by later runs."""
    subject = {name: getattr(request.subject, name) for name in request.subject.__dataclass_fields__}
    return {**subject, "san": list(request.san), "key_type": request.key_type, "validity_days": request.validity_days}


def plan(
    facts: Facts, parameters: Parameters, change_id: str, *, kind: str, supersedes: Sequence[str]
) -> tuple[Command, ...]:
    """Opens the change: its folder with what is asked for, and closes the changes it takes the place of."""
    folder = folder_of(parameters, change_id)
    begun = {"kind": kind, "change_id": change_id, "host": parameters.host, "nginx.conf": facts.nginx_conf}
    if kind == "replace":
        begun["request"] = request_record(parameters.request())  # type: ignore[assignment]
    changes = shlex.quote(f"{parameters.state_dir}/changes")
    closing = tuple(
        Command(
            f"close the open change {each}, superseded",
            f"cd {changes}/{each} && [ ! -e armed ] && echo superseded >.decided && ln .decided decided; status=$?; rm -f .decided; exit $status",
            undo=f"rm {changes}/{each}/decided",
        )
        for each in supersedes
    )
    opening = Command(
        "open the change: its folder, and what is asked for",
        f"install -d -m 700 {shlex.quote(parameters.state_dir)} {changes} && mkdir -m 700 {folder} && cat >{folder}/change.json && sync {folder}",
        undo=f"rm -r {folder}",
        stdin=json.dumps(begun, indent=1, sort_keys=True, ensure_ascii=False) + "\n",
    )
    return (*closing, opening)
