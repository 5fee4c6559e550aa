"""Step 1: back up all of /etc/aos and the pair, hashed and proven, never over an older backup."""

import shlex
from pathlib import PurePosixPath

from runbook_lib.models import Check, Command, Facts, Verdict
from runbook_lib.parameters import Parameters
from runbook_lib.state import same_files
from runbook_lib.steps.folder import folder_of

SOURCE = "vendor's step 1"
NAMES = ("aos.tar", "nginx.crt", "nginx.key")


def plan(facts: Facts, parameters: Parameters, change_id: str) -> tuple[Command, ...]:
    """The backup, made aside and renamed into place only when its bytes are proven."""
    if facts.change(change_id).backup_sums:
        return ()
    folder = folder_of(parameters, change_id)
    conf_dir, above = shlex.quote(parameters.conf_dir), PurePosixPath(parameters.conf_dir).parent
    root, name = shlex.quote(str(above.parent)), shlex.quote(above.name)
    inside = shlex.quote(f"{above.name}/{PurePosixPath(parameters.conf_dir).name}")
    script = "\n".join((
        f"set -e; cd {folder}; rm -rf backup.new; mkdir -m 700 backup.new",
        f"tar --xattrs -C {root} -cpf backup.new/aos.tar {name}",
        f"cp --preserve=timestamps {conf_dir}/nginx.crt {conf_dir}/nginx.key backup.new/; chmod 600 backup.new/*",
        f"tar -C {root} -df backup.new/aos.tar",
        f"for each in nginx.crt nginx.key; do tar -xOf backup.new/aos.tar {inside}/$each | cmp - backup.new/$each; done",
        "cd backup.new; sha256sum aos.tar nginx.crt nginx.key >SHA256SUMS; sync ./* .; cd ..",
        "mv -T backup.new backup; sync .",
    ))  # fmt: skip
    return (
        Command(
            f"back up {above} and the pair, and prove the copy against the original",
            script,
            undo="none needed: the backup is kept",
            time_limit_s=300,
        ),
    )


def checks(facts: Facts, change_id: str) -> tuple[Check, ...]:
    """Whether the backup is there, holds what is live, and is closed to others."""
    change = facts.change(change_id)
    whole = set(change.backup_sums) == set(NAMES)
    loose = sorted(
        f"{name} {mode}" for name, mode in change.files.items() if name.startswith("backup/") and mode != "600"
    )
    return (
        Check(
            "Is the pair backed up, byte for byte?",
            "the live pair's hashes",
            "the same" if whole and same_files(change.before, facts.live) else "missing or different",
            Verdict.PASS if whole and same_files(change.before, facts.live) else Verdict.FAIL,
            SOURCE,
            "run again with change_id=new: the live pair changed after the backup was taken",
        ),
        Check(
            "Is the backup closed to other users?",
            "mode 600",
            ", ".join(loose) or "mode 600",
            Verdict.FAIL if loose else Verdict.PASS,
            SOURCE,
            "chmod 600 the files named",
        ),
    )
