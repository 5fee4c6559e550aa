"""Records in which something else lies in the place of a file: whatever reads them ends soon, says so, and takes none of it into memory."""

import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from runbook_lib.record.gate import search
from runbook_lib.record.listing import list_records
from runbook_lib.record.report import render
from runbook_lib.record.seal import described, digests
from runbook_lib.record.verify import altered, verify
from runbook_lib.secrets import REGISTRY, Registry
from runbook_lib.sshsig import SigningKey
from tests.record.records import gone_on
from tests.record.sealing import CHANGE, OPERATOR, allowing, sealed_record, signing_key
from tests.sinks import typed

SPARSE = 1 << 40
ENOUGH = 1 << 30  # bytes more than there are now; every reader's limit is far below it
LIMIT_S = 20

pytestmark = pytest.mark.timeout(60)


def sparse(path: Path) -> None:
    """A terabyte of zeros on no disk at all."""
    with path.open("wb") as file:
        file.truncate(SPARSE)


def sealed_sparse(path: Path) -> None:
    """The same, and it begins like an encrypted copy, which is not searched."""
    path.write_bytes(b"age-encryption.org/v1\n")
    os.truncate(path, SPARSE)


ODD: Mapping[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to("/etc/services"),
    "a pipe": os.mkfifo,
    "a terabyte": sparse,
    "an encrypted terabyte": sealed_sparse,
    "a folder": Path.mkdir,
}
PLACES = (
    "journal.jsonl",
    "seals/0001.json",
    "seals/0002.json",
    "seals/0002.json.sig",
    "report.html",
    "notebooks/20260601T120000Z-300_install_certificate.ipynb",
    "files/certificate-1.pem",
    "files/more.pem",
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    """The operator's key."""
    return signing_key(tmp_path_factory.mktemp("key"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, key: SigningKey) -> Path:
    """A record with two seals, not to be changed."""
    return sealed_record(tmp_path_factory.mktemp("whole"), key)


@contextmanager
def not_much_memory() -> Iterator[None]:
    """Whoever takes a large file into memory gets none."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ENOUGH, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
def test_what_lies_in_the_place_of_a_file(
    whole: Path, key: SigningKey, tmp_path: Path, place: str, make: Callable[[Path], object]
) -> None:
    """Every command that reads a record tells it as what it is, in a time that does not depend on it; none is proven by it."""
    record = Path(shutil.copytree(whole, tmp_path / "records" / CHANGE))
    (tmp_path / "allowed").write_text(allowing(key))
    gone_on(record, ("note", {"text": "since the last seal"}))
    odd = record / place
    odd.unlink(missing_ok=True)
    make(odd)
    given = {"host": "192.0.2.1", "signing_key": str(key.path), "operator": OPERATOR, "records_dir": str(record.parent)}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(given))
    begun = time.monotonic()
    with not_much_memory():
        proven = [each.verdict for each in verify(record, allowed_signers=allowing(key))]
        assert set(proven) != {"pass"}
        assert place == "report.html" or altered(record) or place in {"seals/0002.json.sig", "files/more.pem"}
        finds = [str(each) for each in search(record, Registry())]
        assert [each for each in finds if each.endswith(f" in {place}")] or make is Path.mkdir
        assert len(digests(record)) == 2
        assert described(record)
        assert [each.change_id for each in list_records(record.parent)] == [CHANGE]
        assert place in render(record, "") or place == "report.html"
        # the page is made anew, whatever lies in its place, but for a folder
        sealing = 0 if place == "report.html" and make is not Path.mkdir else 3
        no_record = 2 if place == "journal.jsonl" and make in {os.mkfifo, Path.mkdir} else 0
        for line, ends in (
            (("records", "list", "--records-dir", record.parent), 0),
            (("records", "show", record), no_record),
            (("records", "diff", record, whole), 2),
            (("verify", record, "--allowed-signers", tmp_path / "allowed"), no_record or 1),
            (("verify", "--all", "--records-dir", record.parent), 1),
            (("seal", record, "-f", tmp_path / "p.yaml"), no_record or sealing),
            (("seal", record, "-f", tmp_path / "p.yaml", "--mask"), no_record or sealing),
            (("approve", record, "--approver", "bob", "--signing-key", key.path), no_record or 3),
        ):
            ended = typed(*line)
            assert ended.exit_code == ends, (line, ended.output[-1000:], ended.exception)
            assert "Traceback" not in ended.output
    assert time.monotonic() - begun < LIMIT_S
    REGISTRY.clear()
