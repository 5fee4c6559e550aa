"""Facts about pairs and changes; of a private key never more than its hash and its public key."""

import contextlib
import io
import json
import re
import shlex
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from runbook_lib.models import CHANGE_ID, Certificate, ChangeFolder, Command, Pair
from runbook_lib.pki.certificates import read_certificates, spki_sha256
from runbook_lib.server.reading import Fact, in_parts

_PUBLIC = "openssl pkey -in {} -pubout -passin pass:"
# the public key that a command prints as PEM, and its digest
_PUBLIC_PART = (
    'public() { pem=$(eval "$2"); body=${pem#*KEY-----}; part "pem:$1"; [ -z "$pem" ] || echo "$pem"; '
    'part "digest:$1"; [ -z "$pem" ] || echo "${body%-----END*}" | base64 -d | sha256sum; }'
)
# the timer of an armed guard is the process that it says it is, started since the machine was, and no zombie
_WATCHED = (
    "part watched; [ ! -f armed ] || { read -r pid _ began boot <armed; set -- $(cut -d ' ' -f 3,22 /proc/$pid/stat); "
    '[ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ] && [ "$1" != Z ] && [ "$2" = "$began" ] && echo yes; }'
)
_SHOWN = "change.json nginx.csr nginx.crt backup/SHA256SUMS backup/nginx.crt armed decided guard.log journal-head seal"
_PUBLICS = {
    "key": ("nginx.key", _PUBLIC.format("nginx.key")),
    "csr": ("nginx.csr", "openssl req -in nginx.csr -noout -pubkey"),
    "certificate": ("nginx.crt", "openssl x509 -in nginx.crt -noout -pubkey"),
    "before": ("backup/nginx.key", _PUBLIC.format("backup/nginx.key")),
}
_LARGEST = 1 << 18
_DIGEST = re.compile("[0-9a-f]{64}")


def pair(folder: str) -> Fact[Pair]:
    """The pair in a folder; the private key by its hash and its public key alone."""
    lines = [
        "part sums; for each in nginx.crt nginx.key; do [ ! -f $each ] || sha256sum $each; done",
        f"part public; [ ! -f nginx.key ] || {_PUBLIC.format('nginx.key')}",
        f"part certificate; [ ! -f nginx.crt ] || head -c {_LARGEST} nginx.crt",
    ]

    def process(parts: dict[str, bytes]) -> Pair:
        return _pair(parts["certificate"], parts["public"].decode(), _sums(parts["sums"].decode()))

    return in_parts("what the pair is", f"cd {shlex.quote(folder)} || exit 0", lines, process, Pair())


def _sums(text: str) -> dict[str, str]:
    """Digest by file name, from what sha256sum printed; what is no digest is left out, since they go into commands."""
    rows = (line.split("  ", 1) for line in text.splitlines())
    return {name: digest for digest, name in rows if _DIGEST.fullmatch(digest)}


def _pair(certificate: bytes, public: str, sums: Mapping[str, str], folder: str = "") -> Pair:
    chain: tuple[Certificate, ...] = ()
    with contextlib.suppress(ValueError):
        chain = read_certificates(certificate)
    digest = ""
    with contextlib.suppress(ValueError):
        digest = spki_sha256(public)
    return Pair(sums.get(f"{folder}nginx.crt", ""), sums.get(f"{folder}nginx.key", ""), chain, digest)


def change_list(state_dir: str) -> Fact[tuple[tuple[tuple[str, str, str], ...], tuple[str, ...]]]:
    """The changes that have a folder, oldest first: id, `replace` or `restore`, and what was decided; copies of folders are none.

    Then the ids of those that were rolled back, where nobody has written down that the old pair serves again.
    """
    script = (
        f'cd {shlex.quote(state_dir)}/changes 2>/dev/null || exit 0; for each in *; do [ -f "$each/change.json" ] || continue; '
        'kind=replace; grep -q \'"kind": "restore"\' "$each/change.json" && kind=restore; '
        'half=; [ -e "$each/armed" ] && [ ! -e "$each/settled" ] && half=half; '
        'echo "$each $kind $half $(cat "$each/decided" 2>/dev/null)"; done'
    )

    def process(text: str) -> tuple[tuple[tuple[str, str, str], ...], tuple[str, ...]]:
        rows = [line.split(" ", 3) for line in sorted(text.splitlines())]
        known = [(name, kind, half, decided) for name, kind, half, decided in rows if CHANGE_ID.fullmatch(name)]
        return (
            tuple((name, kind, decided) for name, kind, _, decided in known),
            tuple(name for name, _, half, decided in known if half and decided == "rolled-back"),
        )

    return Fact(Command("which changes there are", script), process)


def change_folder(state_dir: str, known: ChangeFolder) -> Fact[ChangeFolder]:
    """Everything about one change that may be shown: never a private key, only its hash and its public key.

    Args:
        state_dir: Where the changes lie.
        known: The change as it was read before, or with nothing but its id: the public key of a file whose bytes are the
            same as then is not taken out of it again.
    """
    digests = _digests(known)
    lines = [
        _PUBLIC_PART,
        f"sums=$(sha256sum {' '.join(file for file, _ in _PUBLICS.values())} backup/nginx.crt)",
        'part sums; [ -z "$sums" ] || echo "$sums"',
        "part files; find . -type f -printf '%m %P\\n'",
        *(_public_line(name, digests[name]) for name in _PUBLICS),
        _WATCHED,
        f"part shown; find {_SHOWN} -type f -size -{_LARGEST + 1}c -print0 | tar --null -T - -cf -",
    ]
    place = shlex.quote(f"{state_dir}/changes/{known.change_id}")
    return in_parts(
        "where the change stands", f"cd {place} || exit 0", lines,
        lambda parts: _change_folder(known, parts), ChangeFolder(known.change_id),
    )  # fmt: skip


def _digests(change: ChangeFolder) -> dict[str, str]:
    """The digest of each file that a public key is taken from, as it was read."""
    return {
        "key": change.staged.key_sha256,
        "csr": sha256(change.csr.encode()).hexdigest() if change.csr else "",
        "certificate": change.staged.certificate_sha256,
        "before": change.before.key_sha256,
    }


def _public_line(name: str, known: str) -> str:
    """The part with the public key in a file that is there, unless the file has the known digest."""
    file, script = _PUBLICS[name]
    same = f'*"{known}  {file}"*) ;; ' if known else ""
    return f"case $sums in {same}*\"  {file}\"*) public {name} '{script}' ;; esac"


def _change_folder(known: ChangeFolder, said: Mapping[str, bytes]) -> ChangeFolder:
    sums, modes = _sums(said["sums"].decode()), said["files"].decode(errors="replace").splitlines()
    with tarfile.open(fileobj=io.BytesIO(said["shown"])) as shown:
        wanted = (
            each for each in shown if each.size <= _LARGEST
        )  # a tar of a few bytes may tell of a file of any size
        files = {each.name: reader.read() for each in wanted if (reader := shown.extractfile(each))}
    text = {name: files.get(name, b"").decode(errors="replace") for name in _SHOWN.split()}
    begun = _begun(text["change.json"])
    publics = {
        name: (said[f"digest:{name}"].decode()[:64], pem.decode())
        for name in _PUBLICS
        if (pem := said.get(f"pem:{name}"))
    }
    publics |= {
        name: public
        for name, public in known.public_keys.items()
        if f"pem:{name}" not in said and _PUBLICS[name][0] in sums
    }
    return ChangeFolder(
        change_id=known.change_id,
        kind=begun.get("kind", "replace"),
        request=begun.get("request", {}),
        nginx_conf=str(begun.get("nginx.conf", "")),
        csr=text["nginx.csr"],
        staged=_pair(files.get("nginx.crt", b""), publics.get("key", ("", ""))[1], sums),
        public_keys=publics,
        before=_pair(files.get("backup/nginx.crt", b""), publics.get("before", ("", ""))[1], sums, "backup/"),
        backup_sums=_sums(text["backup/SHA256SUMS"]),
        armed=bool(text["armed"]),
        watched=bool(said["watched"]),
        decided=text["decided"].strip(),
        guard_log=tuple(text["guard.log"].splitlines()),
        journal_head=text["journal-head"].strip(),
        seal=text["seal"].strip(),
        files={name: mode for mode, _, name in (line.partition(" ") for line in modes)},
    )


def _begun(text: str) -> Mapping[str, Any]:
    """What a change began with; nothing where the writing of it was cut off, so that later runs can take its place."""
    try:
        begun = json.loads(text)
    except ValueError:
        return {}
    return begun if isinstance(begun, dict) else {}
