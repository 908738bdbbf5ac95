"""The run folder: nothing half-written, nothing outside of it, never two at once."""

import json
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weakseg.errors import RunError
from weakseg.runs import (
    Run,
    _in_lines,
    atomic_path,
    cores,
    environment,
    inside,
    locked,
    make_folder,
    open_run,
    processor,
    read_json,
    remove_leftovers,
    write_json,
    write_text,
)


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_has_null_for_what_json_cannot_say(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [float("inf"), 1.5], 3: None})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [None, 1.5], "3": None}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)  # fmt: skip
def test_json_is_read_as_it_was_written(value):
    assert json.loads(_in_lines(value)) == value


def test_each_row_of_a_table_is_a_line():
    table = [{"method": "a", "dice": 0.5}, {"method": "b", "dice": None}]
    assert _in_lines({"tables": {"methods": table}, "empty": []}).splitlines() == [
        "{",
        '  "tables": {',
        '    "methods": [',
        '      {"method": "a", "dice": 0.5},',
        '      {"method": "b", "dice": null}',
        "    ]",
        "  },",
        '  "empty": []',
        "}",
    ]


@pytest.mark.parametrize("text", ["{", "", "[1, 2]", "null", '"run"'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(RunError, match=r"damaged(.|\n)*scores\.json(.|\n)*--force"):
        read_json(tmp_path / "scores.json")
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"damaged(.|\n)*run\.json(.|\n)*delete it"):
        _ = Run(tmp_path).record
    (tmp_path / "run.json").unlink()
    assert Run(tmp_path).record == {}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "../run-of-another"])
def test_names_cannot_leave_the_folder(tmp_path, name):
    with pytest.raises(RunError, match="outside"):
        inside(tmp_path / "run", name)


def test_names_below_the_folder_are_joined(tmp_path):
    assert inside(tmp_path, "a", "b..png") == tmp_path / "a" / "b..png"
    assert inside(tmp_path, "a/../b.png").resolve() == tmp_path / "b.png"


def test_a_folder_of_a_run_may_lie_on_another_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "heatmaps").symlink_to(tmp_path / "disk", target_is_directory=True)
    path = inside(tmp_path / "run", "heatmaps", "a.npz")
    path.touch()
    assert (tmp_path / "disk" / "a.npz").exists()


def _hold(folder, ready, done):
    with locked(folder):
        ready.set()
        done.wait(30)


def test_a_second_command_is_refused(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(60)
        with pytest.raises(RunError, match="in use"), locked(tmp_path):
            pass
    finally:
        done.set()
        other.join()
    with locked(tmp_path):
        assert (tmp_path / ".lock").exists()


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="no such run"):
        open_run(tmp_path / "no")
    with pytest.raises(RunError, match=r"not a weakseg run(.|\n)*run\.json"):
        open_run(tmp_path)


def test_the_machine_is_told(monkeypatch):
    held = environment()
    assert held["processor"] == processor()
    assert held["cores"] == cores() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("mine")
    with pytest.raises(RunError, match="is a file"):
        make_folder(tmp_path / "f")
    assert (tmp_path / "f").read_text() == "mine"


def test_what_a_killed_command_was_writing_goes_and_nothing_else(tmp_path):
    for name in ("a/.part-1-2.json", ".part-masks/m/x.png", "a/b/.part-gradcam/y.npz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    for name in (".lock", "a/part-1", "a/b/x.part-1", ".mine/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    remove_leftovers(tmp_path)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {".lock", "a/part-1", "a/b/x.part-1", ".mine/c"}
    for name in ("a/.part-1", "graphs/net/.part-1", "shards/1/.part-1"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("written by others")
    remove_leftovers(tmp_path, but=[tmp_path / "graphs", tmp_path / "shards"])
    parts = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob(".part-*")}
    assert parts == {"graphs/net/.part-1", "shards/1/.part-1"}
