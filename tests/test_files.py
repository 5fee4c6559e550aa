"""Files on the operator's side: read whole or not at all, whatever lies in their place."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.files import LARGEST, begins_with, read_regular, sha256_of

HUGE = 1 << 40


def make_huge(path: Path) -> None:
    """A file that claims a terabyte and holds nothing."""
    with path.open("wb") as file:
        file.truncate(HUGE)


def make_link(path: Path) -> None:
    """A link to a file that could be read."""
    path.with_name("target").write_bytes(b"x")
    path.symlink_to("target")


ODD: dict[str, tuple[Callable[[Path], object], int, str]] = {
    "nothing": (lambda _: None, errno.ENOENT, "No such file or directory"),
    "a folder": (lambda path: path.mkdir(), errno.EINVAL, "it is no regular file"),
    "a pipe": (os.mkfifo, errno.EINVAL, "it is no regular file"),
    "a link": (make_link, errno.ELOOP, "it is a link"),
    "a terabyte of nothing": (make_huge, errno.EFBIG, "it is larger than "),
}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "read",
    [lambda path: read_regular(path, LARGEST, follow=False), sha256_of, lambda path: begins_with(path, b"x")],
    ids=["read", "digested", "looked at"],
)
def test_what_is_no_file_that_can_be_read(
    tmp_path: Path, odd: tuple[Callable[[Path], object], int, str], read: Callable[[Path], object]
) -> None:
    """It is told at once why, and no descriptor is left open."""
    make, number, why = odd
    make(tmp_path / "odd")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the number alone
    with pytest.raises(OSError, match=why) as caught:
        read(tmp_path / "odd")
    assert caught.value.errno == number
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("most", [1, 100, 1 << 16, (1 << 16) + 1, 1 << 20])
def test_a_file_is_read_whole_or_not_at_all(tmp_path: Path, most: int) -> None:
    """The limit itself is within it; one byte more is told, with the limit, and nothing is cut."""
    path = tmp_path / "file"
    for size in {0, most - 1, most}:
        path.write_bytes(os.urandom(size))
        assert read_regular(path, most) == path.read_bytes()
    path.write_bytes(b"x" * (most + 1))
    with pytest.raises(OSError, match=f"larger than {'1 MiB' if most == 1 << 20 else f'{most} bytes'}"):
        read_regular(path, most)


def test_a_file_that_grows_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size when it was opened is not believed."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 200_000)
    smaller = os.stat_result((0o100600, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: smaller)
    assert len(read_regular(path, 200_000)) == 200_000
    with pytest.raises(OSError, match="larger than 199999 bytes"):
        read_regular(path, 199_999)


def test_a_link_is_followed_where_a_person_names_a_file(tmp_path: Path) -> None:
    """A parameter may name one."""
    make_link(tmp_path / "link")
    assert read_regular(tmp_path / "link", 1) == b"x"
