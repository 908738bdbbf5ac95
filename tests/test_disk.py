"""Disks that are full, broken or may not be written: the file is named, and nothing is lost."""

import contextlib
import errno
import os
import resource
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from tests.tiny import tree, weakseg, write_config, write_set
from weakseg import disk, runs
from weakseg.data.formats.base import open_file
from weakseg.data.formats.writing import write_mask
from weakseg.data.images import write_grey
from weakseg.disk import DiskError, in_words, require_room
from weakseg.errors import DataError
from weakseg.heatmaps.store import Heatmap, save_heatmap
from weakseg.report.pictures import write_overlay
from weakseg.runs import Run, atomic_path, write_bytes, write_json, write_text
from weakseg.stages import base
from weakseg.stages.base import Stage, perform
from weakseg.training.checkpoints import RESUME, Training
from weakseg.training.weights import save_weights, second_name

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 48}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0]}}
scores: {{bootstrap: 100}}
"""
USAGE = namedtuple("USAGE", "total used free")


@contextlib.contextmanager
def files_of_at_most(size):
    """No file can be made larger: as on a full disk, but for the number of the error."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def checkpoint(path):
    model = nn.Linear(200, 200)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    Training(model, optimizer, schedule, None).save(path, "key")


NOISE = np.random.default_rng(0).integers(0, 255, (256, 256)).astype(np.uint8)
HEAT = Heatmap(np.random.default_rng(0).random((64, 64)), (64, 64), 64, "l", "m", "t", 0.5)
WRITERS = {
    "text": lambda p: write_text(p, "x" * 9000),
    "json": lambda p: write_json(p, {"x": list(range(9000))}),
    "bytes": lambda p: write_bytes(p, bytes(9000)),
    "weights": lambda p: save_weights(p, nn.Linear(100, 100), {"a": "b"}),
    "checkpoint": checkpoint,
    "mask": lambda p: write_mask(p, NOISE > 127),
    "target": lambda p: write_grey(p, NOISE),
    "heatmap": lambda p: save_heatmap(p, HEAT),
    "picture": lambda p: write_overlay(p, NOISE, NOISE, NOISE > 127),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_written_is_named_and_the_old_file_stays(name, tmp_path):
    path = tmp_path / f"{name}.x"
    path.write_bytes(b"before")
    with files_of_at_most(4096), pytest.raises(DiskError) as e:
        WRITERS[name](path)
    assert f"where: {path}\n" in str(e.value)
    assert os.strerror(errno.EFBIG) in str(e.value)
    assert "repeat the command" in str(e.value)
    assert e.value.exit_code == 2
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {path.name: b"before"}
    WRITERS[name](path)
    assert path.stat().st_size > 4096


def test_a_full_disk_says_how_much_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(10**6, 10**6 - 2000, 2000))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(DiskError) as e, atomic_path(tmp_path / "a", size=10_000) as part:
        part.write_bytes(bytes(3000))
        full()
    assert "it has 10.0 KB, 5.0 KB are free: 5.0 KB are missing" in str(e.value)
    assert "free space on the disk" in str(e.value)
    with pytest.raises(DiskError) as e, atomic_path(tmp_path / "a") as part:
        part.write_bytes(bytes(3000))
        full()
    assert "3.0 KB of it were written; 5.0 KB are free without it" in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "way"),
    [
        (errno.EIO, "look at the disk"),
        (errno.EROFS, "that may be written"),
        (errno.EACCES, "that you may write to"),
        (errno.EDQUOT, "raise the quota"),
        (errno.ENAMETOOLONG, "shorter path"),
    ],
)
def test_every_refusal_has_its_way_out(number, way, tmp_path):
    for wrapped in (False, True):
        with pytest.raises(DiskError) as e, atomic_path(tmp_path / "a"):
            try:
                raise OSError(number, os.strerror(number))
            except OSError as inner:
                if not wrapped:
                    raise
                raise ValueError("a library's word for it") from inner
        assert os.strerror(number) in str(e.value)
        assert way in str(e.value)


def test_an_error_of_another_file_or_of_ours_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a"):
        (tmp_path / "other").read_bytes()
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "a"):
        _ = 1 / 0


def test_a_folder_in_the_place_of_a_file_is_told(tmp_path):
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(DiskError, match=r"Is a directory(.|\n)*move the folder"):
        write_text(tmp_path / "a.csv", "x")
    (tmp_path / "f").write_text("mine")
    with pytest.raises(DiskError, match=r"cannot be written(.|\n)*move the file away"):
        write_text(tmp_path / "f" / "b.csv", "x")


def test_content_is_on_the_disk_before_the_name_and_the_name_before_the_next(tmp_path, monkeypatch):
    order = []
    for name in ("flush_file", "replace_file", "flush_folder", "flush_disk"):
        real, where = getattr(disk, name), base if name == "flush_disk" else runs

        def noted(*args, name=name, real=real):
            order.append((name, args[-1].name))
            return real(*args)

        monkeypatch.setattr(where, name, noted)
    write_text(tmp_path / "a.txt", "x")
    assert [o for o, _ in order] == ["flush_file", "replace_file", "flush_folder"]
    assert order[1:] == [("replace_file", "a.txt"), ("flush_folder", tmp_path.name)]
    order.clear()
    mask = tmp_path / "m.png"

    def work(_):
        write_mask(mask, NOISE > 127)
        return {}

    assert perform(Run(tmp_path), Stage("s", "k", (mask,), work))
    # Thousands of masks are flushed at once, before the record says that they are there.
    assert order[0] == ("replace_file", "m.png")
    assert order[1][0] == "flush_file"  # the list of the outputs
    steps = [*order]
    at = steps.index(("flush_disk", tmp_path.name))
    assert ("replace_file", "run.json") in steps[at:]
    assert ("replace_file", "run.json") not in steps[:at]


def test_windows_is_asked_again_where_a_file_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "WINDOWS", True)
    monkeypatch.setattr(disk, "REPLACE_WAIT", 0)
    calls = []
    real = type(tmp_path).replace

    def busy(self, target):
        calls.append(target)
        if len(calls) < 4 or target.name == "held.csv":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, target)

    monkeypatch.setattr(type(tmp_path), "replace", busy)
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"
    assert len(calls) == 4
    with pytest.raises(DiskError, match="Excel"):
        write_text(tmp_path / "held.csv", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt"]


def of_windows(number, code, path):
    """An error as Windows raises it: only there has it a number of its own."""
    e = OSError(number, os.strerror(number), str(path))
    e.winerror = code
    return e


DEEP = "/".join(["a folder with a long name"] * 12)
TRAPS = {
    "206": (f"{DEEP}/a.csv", errno.EINVAL, 206, "too long for Windows", "shorter path"),
    "no such path": (f"{DEEP}/a.csv", errno.ENOENT, 3, "too long for Windows", "LongPaths"),
    "no such file": (f"{DEEP}/a.csv", errno.ENOENT, 2, "too long for Windows", "LongPaths"),
    "device": ("con/a.csv", errno.ENOENT, 3, "cannot have", "rename"),
    "device with an ending": ("x/NUL.csv", errno.EINVAL, 123, "cannot have", "rename"),
    "ends with a dot": ("x./a.csv", errno.ENOENT, 2, "cannot have", "rename"),
    "a long name": ("x" * 300, errno.ENAMETOOLONG, None, "too long", "shorter file names"),
}


@pytest.mark.parametrize("name", TRAPS)
@pytest.mark.parametrize("do", ["write", "read", "command"])
def test_a_path_that_cannot_be_is_one_sentence_with_file_and_way_out(
    name, do, tmp_path, monkeypatch, capsys
):
    where, number, code, says, way = TRAPS[name]
    path = tmp_path / where
    monkeypatch.setattr(disk, "WINDOWS", code is not None)

    def fail(*_a, **_k):
        raise of_windows(number, code, path)

    if do == "write":
        monkeypatch.setattr(type(tmp_path), "mkdir", fail)
        with pytest.raises(DiskError) as e:
            write_text(path, "x")
        told = str(e.value)
        assert "repeat the command" in told
    elif do == "read":
        monkeypatch.setattr(type(tmp_path), "stat", fail)
        with pytest.raises(DataError) as e:
            open_file(path)
        told = str(e.value)
    else:
        monkeypatch.setattr("weakseg.stages.report.make_report", fail)
        monkeypatch.setattr("weakseg.runs.open_run", lambda _run: None)
        assert weakseg("report", "run", "--out", "out") == 2
        told = capsys.readouterr().err
    assert says in told.splitlines()[0]
    assert f"where: {path}\n" in told
    assert way in told
    if "too long" in says:
        assert f"{len(str(path))} characters" in told


def test_a_name_that_this_disk_cannot_have_is_told_for_what_it_is(tmp_path):
    path = tmp_path / ("x" * 300)
    with pytest.raises(DiskError, match=r"too long\.(.|\n)*longest name has 300 bytes"):
        write_text(path / "a.csv", "x")
    with pytest.raises(DataError, match=r"too long\.(.|\n)*longest name has 300 bytes"):
        open_file(path)


def test_what_is_only_missing_is_not_called_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "WINDOWS", True)
    with pytest.raises(DataError, match="does not exist"):
        open_file(tmp_path / "a.png")


def test_a_second_name_is_refused_alike(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(bytes(9000))
    monkeypatch.setattr(type(tmp_path), "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError()))
    with files_of_at_most(4096), pytest.raises(DiskError, match="cannot be written"):
        second_name(tmp_path / "a", tmp_path / "b")


def test_work_that_has_clearly_no_room_is_refused_before_it(tmp_path, monkeypatch):
    require_room(tmp_path, 1, "this")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: USAGE(10**9, 10**9 - 10**6, 10**6))
    require_room(tmp_path / "not" / "there", 10**6, "this")
    with pytest.raises(DiskError, match=r"this(.|\n)*1.0 MB are free(.|\n)*2.0 MB are missing"):
        require_room(tmp_path / "not" / "there", 3 * 10**6, "this")


def test_bytes_in_words():
    assert [in_words(n) for n in (0, 999, 1000, 12_340_000, 5e15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 KB",
        "12.3 MB",
        "5000.0 TB",
    ]


def test_a_training_without_room_does_not_begin(tmp_path, monkeypatch, capsys):
    config = write_config(tmp_path, write_set(tmp_path / "data", patients=6), CONFIG)
    told = ["train-classifier", config, "--run-dir", tmp_path / "run", "--device", "cpu"]
    monkeypatch.setattr(disk, "free_bytes", lambda _: 10 * 10**6)
    assert weakseg(*told) == 2
    err = capsys.readouterr().err
    assert "too little room for classifier squeezenet1_1, seed 0" in err
    assert "10.0 MB are free, at least 11.6 MB are needed" in err
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_a_training_whose_checkpoint_finds_no_room_goes_on_later(tmp_path, capsys):
    config = write_config(tmp_path, write_set(tmp_path / "data", patients=6), CONFIG)
    run = tmp_path / "run"
    told = ["train-classifier", config, "--run-dir", run, "--device", "cpu"]
    with files_of_at_most(4 * 2**20):  # weights of 2.9 MB go in, a checkpoint of 8.7 MB does not
        assert weakseg(*told) == 2
    err = capsys.readouterr().err
    assert RESUME in err
    assert os.strerror(errno.EFBIG) in err
    assert "fault of weakseg" not in err
    assert not [name for name in tree(run) if ".part-" in name]
    assert weakseg(*told) == 0
