"""Files of the data that are read once, and again when they may be others."""

import hashlib
import os
import time

import pytest

from weakseg.data import digests
from weakseg.data.digests import MISSING, digest_files, read_known, write_known


@pytest.fixture
def files(tmp_path):
    """Two files of an hour ago, one of them in a folder of a series, and one that is not there."""
    (tmp_path / "series").mkdir()
    paths = [tmp_path / "a.png", tmp_path / "series/1.dcm"]
    for path in paths:
        path.write_bytes(path.name.encode())
        hour_ago(path)
    return [paths[0], tmp_path / "series", tmp_path / "none.png"]


def hour_ago(path):
    about = path.stat()
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns - 3600 * 10**9))


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    """The time of change of an entry is always now: here it counts as long past."""
    monkeypatch.setattr(digests, "SETTLED", -(10**12))


@pytest.fixture
def read(monkeypatch):
    """How often a file is read."""
    count = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: count.append(1) or real(*a))
    return count


def test_what_files_hold(files):
    found = digest_files(files)
    of_series = hashlib.blake2b(hashlib.blake2b(b"1.dcm").digest()).digest()
    assert [found.of[f] for f in files] == [hashlib.blake2b(b"a.png").digest(), of_series, MISSING]
    assert set(found.known) == {str(files[0]), str(files[1] / "1.dcm")}


def test_what_is_known_is_not_read_again_and_the_list_is_kept(files, tmp_path, read):
    first = digest_files(files)
    write_known(tmp_path / "list.json", first.known)
    assert len(read) == 2
    again = digest_files(files, read_known(tmp_path / "list.json"))
    assert (again, len(read)) == (first, 2)
    written = (tmp_path / "list.json").stat().st_mtime_ns
    write_known(tmp_path / "list.json", again.known)
    assert (tmp_path / "list.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("number", [0, 1])
def test_another_content_of_the_same_size_and_time_is_noticed(files, number):
    first = digest_files(files)
    path = [files[0], files[1] / "1.dcm"][number]
    about = path.stat()
    time.sleep(0.02)  # the clock of files ticks in up to 4 ms
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    again = digest_files(files, first.known)
    assert again.of[files[number]] != first.of[files[number]]
    assert again.of[files[1 - number]] == first.of[files[1 - number]]


def test_another_file_in_a_series_is_noticed(files):
    first = digest_files(files)
    (files[1] / "2.dcm").write_bytes(b"new")
    assert digest_files(files, first.known).of[files[1]] != first.of[files[1]]


def test_what_was_changed_just_now_is_read_again(files, monkeypatch):
    monkeypatch.setattr(digests, "SETTLED", 2 * 10**9)
    assert digest_files(files).known == {}
    write_known(files[0].parent / "list.json", {})
    assert read_known(files[0].parent / "list.json") == {}
    assert (files[0].parent / "list.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{", '{"a": 1}', '{"a": []}', '{"a": {"w": 1, "x": 2, "y": 3, "z": 4}}'),
        *('{"a": [1, 2, 3, "x"]}', '{"a": [1, 2, 3, "ab"]}'),
    ],
)
def test_a_damaged_list_is_none(tmp_path, text):
    (tmp_path / "list.json").write_text(text)
    assert read_known(tmp_path / "list.json") == {}
    assert read_known(tmp_path / "missing.json") == {}
