"""Looking into many files at once: what is found does not depend on who looks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.fails import ends_itself, fail
from tests.data.helpers import blob, good_rows, noise, save, write_rows
from weakseg.config import Config, DataConfig
from weakseg.data import inspect_files
from weakseg.data.check import check_table
from weakseg.data.inspect_files import in_processes, in_threads
from weakseg.data.manifest import patient_stand_ins, read_manifest, read_table
from weakseg.errors import DataError, UserError
from weakseg.stages.prepare import prepared_run

DATA = DataConfig()


@pytest.fixture
def faulty(tmp_path):
    """Without patients, so that look-alikes are told; a mask is an image, and one too small."""
    rows = [row[:-1] for row in good_rows(tmp_path)]
    rows[2][2] = rows[1][0]
    save(tmp_path / rows[5][2], blob((9, 9)))
    (tmp_path / rows[7][0]).write_bytes(b"no image")
    rows += [["images/mirrored.png", "tumor", ""], ["images/again.png", "normal", ""]]
    save(tmp_path / "images/mirrored.png", noise(0)[:, ::-1])
    save(tmp_path / "images/again.png", noise(1))
    return write_rows(tmp_path, rows)


def test_processes_find_what_threads_find(faulty, monkeypatch):
    table = read_table(faulty)
    expected = check_table(table, DATA)
    assert {"mask-is-image", "mask-size", "image-unreadable", "duplicate"} <= {
        p.kind for p in expected.problems
    }
    monkeypatch.setattr(inspect_files, "MANY", 1)
    monkeypatch.setattr(inspect_files, "MANY_AT_ONCE", 3)
    monkeypatch.setattr(inspect_files, "cores", lambda: 2)
    monkeypatch.setattr(inspect_files, "in_threads", None)
    told: list[tuple[int, int]] = []
    found = check_table(read_table(faulty), DATA, progress=lambda *n: told.append(n))
    assert found == expected
    assert told == [(3, 10), (3, 10), (3, 10), (1, 10)]


def test_a_row_that_breaks_a_reader_hides_no_other(faulty, monkeypatch):
    table = read_table(faulty)
    expected = check_table(table, DATA).problems
    row = table.rows[2]
    its = inspect_files.look_at_files

    def breaks(some, *args):
        if some == row:
            raise RecursionError("too deep")
        return its(some, *args)

    monkeypatch.setitem(inspect_files.LOOKS, "image", breaks)
    found = check_table(table, DATA).problems
    broken = [p for p in found if p.kind == "row-unreadable"]
    assert [(p.row, p.file, p.severity) for p in broken] == [(row.line, row.image, "error")]
    assert "RecursionError: too deep" in broken[0].message
    assert [p for p in found if p.row != row.line] == [p for p in expected if p.row != row.line]


def test_a_handful_of_rows_starts_no_process(faulty, monkeypatch):
    monkeypatch.setattr(inspect_files, "in_processes", None)
    assert check_table(read_table(faulty), DATA).problems


@pytest.mark.parametrize("way", [in_threads, in_processes])
def test_results_come_in_order_and_errors_come_through(way):
    assert list(way(fail, range(3))) == [0, -1, -2]
    with pytest.raises(OSError, match="disk"):
        list(way(fail, range(5)))


def test_a_process_that_the_system_ended_is_told_as_that():
    with pytest.raises(UserError, match="ended from outside") as told:
        list(in_processes(ends_itself, range(3)))
    assert "memory" in str(told.value.fix)


def test_colour_anywhere_is_found(tmp_path):
    rows = good_rows(tmp_path)
    assert check_table(read_table(write_rows(tmp_path, rows)), DATA).grey
    equal = np.repeat(noise(1)[..., None], 3, axis=2)
    save(tmp_path / rows[2][0], equal)
    assert check_table(read_table(write_rows(tmp_path, rows)), DATA).grey
    equal[0, 0, 1] ^= 1
    save(tmp_path / rows[2][0], equal)
    assert not check_table(read_table(write_rows(tmp_path, rows)), DATA).grey


def test_the_check_knows_the_groups_that_stand_for_patients(tmp_path):
    rows = [row[:-1] for row in good_rows(tmp_path)]
    save(tmp_path / rows[3][0], noise(0)[:, ::-1])
    table = read_table(write_rows(tmp_path, rows))
    groups = check_table(table, DATA).groups
    assert len(set(groups)) == 7
    cases = read_manifest(table.path, DATA).cases
    assert patient_stand_ins(table, groups) == [c.patient for c in cases]


def test_patients_that_were_found_once_are_not_looked_for_again(tmp_path, monkeypatch):
    rows = [row[:-1] for row in good_rows(tmp_path)]
    path = write_rows(tmp_path, rows)
    config = Config.model_validate({"data": {"manifest": str(path)}, "device": "cpu"})
    with prepared_run(config, tmp_path / "run") as prepared:
        first = prepared.cases

    def decode(*_: object) -> None:
        raise AssertionError("an image is decoded")

    monkeypatch.setattr("weakseg.data.check_files.decode", decode)
    monkeypatch.setattr("weakseg.data.manifest.read_image", decode)
    with prepared_run(config, tmp_path / "run") as prepared:
        assert prepared.cases == first
    (tmp_path / "run" / "splits.csv").unlink()
    with (
        pytest.raises(DataError, match="an image is decoded"),
        prepared_run(config, tmp_path / "run"),
    ):
        pass
