"""Up to date means: what lies in the run folder is what its stage wrote."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.layout_of_run import files_of
from tests.tiny import write_config, write_set
from weakseg import layout
from weakseg.config import load_config
from weakseg.current import is_current
from weakseg.outputs import find_damage, list_outputs
from weakseg.runs import RECORD, Run, read_json
from weakseg.stages import base, compare, report
from weakseg.stages.base import Stage, perform
from weakseg.stages.prepare import prepared_run

pytestmark = pytest.mark.thorough

CONFIG = """
name: tiny
device: cpu
data: {{manifest: {manifest}, image_size: 64}}
classifier: {{arch: squeezenet1_1, epochs: 2, batch_size: 8, seeds: [0]}}
masks: {{rules: [{{rule: otsu}}, {{rule: fixed, at: 0.3}}], gate: none}}
scores: {{bootstrap: 100}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 1, seeds: [0]}}
  pupil:
    {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 1, seeds: [0], masks: gradcam-fixed}}
equivalence: {{segmenter: net, patients: [1], draws: 1}}
"""
HEATMAPS, SEGMENT = "heatmaps/squeezenet1_1/seed-0/gradcam", "segment"
CLASSIFIER, PREDICTIONS = "classifier/squeezenet1_1/0", "predictions/squeezenet1_1/0"
SAID = "classifier-scores/squeezenet1_1/0"
NET, PUPIL, TARGETS = "segmenter/net/0", "segmenter/pupil/0", "targets/pupil/0"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A whole `compare` but its report; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("outputs")
    config = write_config(folder, write_set(folder / "data"), CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "make_report", lambda runs, out, **_: out)
        made = again(config, folder / "run")
        stages = set(read_json(folder / "run" / RECORD)["stages"]) - {"prepare", "report"}
        assert made == stages
    return folder, config


@pytest.fixture
def copy(job, tmp_path, monkeypatch):
    """A copy of the run that a test may damage."""
    monkeypatch.setattr(report, "make_report", lambda runs, out, **_: out)
    return Path(shutil.copytree(job[0] / "run", tmp_path / "run")), job[1]


def again(config: Path, run: Path) -> set[str]:
    """Run `compare` once more; the stages that it made, but for the report."""
    made = []
    with pytest.MonkeyPatch.context() as patch, prepared_run(load_config(config), run) as prepared:
        finish = base._finish
        patch.setattr(
            base, "_finish", lambda r, s, *rest: (made.append(s.name), finish(r, s, *rest))
        )
        compare.compare(prepared)
    return set(made) - {"report"}


def contents(run: Path) -> dict[str, bytes]:
    """Every file but those that tell times."""
    told = {
        n for n in files_of(run) if n in (RECORD, "data-files.json") or n.startswith("outputs/")
    }
    return {n: (run / n).read_bytes() for n in files_of(run) - told}


def one(run: Path, pattern: str) -> Path:
    return sorted(run.glob(pattern))[0]


def delete(path: Path) -> None:
    path.unlink()


def other_mask(path: Path) -> None:
    mask = np.asarray(Image.open(path))
    Image.fromarray(255 - mask).save(path)


def flip_a_byte(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    times = path.stat()
    path.write_bytes(held)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the size and time stay


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_number(path: Path) -> None:
    text = path.read_text()
    k = next(i for i in reversed(range(len(text))) if text[i].isdigit())
    path.write_text(text[:k] + str((int(text[k]) + 1) % 10) + text[k + 1 :])


DAMAGES = (
    {
        "masks/gradcam-otsu/seed-0/*.png": (delete, SEGMENT),
        "heatmaps/*/*/*/*.npz": (flip_a_byte, HEATMAPS),
        "scores/summary.csv": (other_number, "scores"),
        "scores/parts/floors.csv": (other_number, "floors"),
        "classifier/*/*/predictions.csv": (other_number, PREDICTIONS),
        "segmenter/net/*/best.*": (cut, NET),
        "targets/pupil/seed-0/*.png": (delete, TARGETS),
        "equivalence/net/draw-0/*.csv": (cut, "equivalence/net/0/1"),
    },
    {
        "masks/gradcam-fixed/seed-0/*.png": (other_mask, SEGMENT),
        "classifier/*/*/best.*": (cut, CLASSIFIER),
        "scores/per_case.csv": (cut, "scores"),
        "masks/net/seed-0/*.png": (other_mask, "masks/net"),
        "masks/pupil/threshold.json": (other_number, "masks/pupil"),
        "segmenter/pupil/*/settings.json": (other_number, PUPIL),
        "scores/equivalence.csv": (other_number, "equivalence"),
    },
    {
        "masks/gradcam-otsu/threshold.json": (other_number, SEGMENT),
        "classifier/*/*/scores.json": (delete, SAID),
    },
    {"scores/parts/heatmap.csv": (cut, SEGMENT), "outputs/scores.json": (cut, "scores")},
)
"""Damages that are done at once: pattern of a file → what is done to it, and whose output it is."""


@pytest.mark.parametrize("damages", DAMAGES)
def test_what_was_damaged_is_named_and_made_again_and_nothing_else(job, copy, capsys, damages):
    run, config = copy
    paths = [one(run, pattern) for pattern in damages]
    for path, (damage, _) in zip(paths, damages.values(), strict=True):
        damage(path)
    assert again(config, run) == {stage for _, stage in damages.values()}
    said = [line for line in capsys.readouterr().err.splitlines() if "made again" in line]
    assert len(said) == len(paths)
    for path in paths:
        assert any(str(path.relative_to(run)) in line for line in said), path
    assert contents(run) == contents(job[0] / "run")


def test_what_is_only_touched_or_alien_is_left_alone(job, copy):
    run, config = copy
    for path in run.rglob("*"):
        if path.is_file():
            path.touch()
    alien = [run / "masks/gradcam-otsu/seed-0/Thumbs.db", run / "notes.txt"]
    for path in alien:
        path.write_bytes(b"mine")
    read = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weakseg.outputs.file_hash", lambda p: (read.append(p), file_hash(p))[1])
        assert again(config, run) == set()
        assert read  # the times are others: they are read once
        read.clear()
        assert again(config, run) == set()
        assert not read
    for path in alien:
        assert path.read_bytes() == b"mine"
        path.unlink()
    assert contents(run) == contents(job[0] / "run")


def file_hash(path: Path) -> str:
    from weakseg.runs import file_hash

    return file_hash(path)


def test_a_changed_part_makes_no_scores_where_its_stage_is_not_run(copy, capsys):
    """`train-segmenter` alone joins the parts, and does not make masks of heatmaps."""
    run, config = copy
    cut(run / "scores/parts/heatmap.csv")
    from weakseg.scores.stored import read_per_case
    from weakseg.stages.scoring import collect

    with prepared_run(load_config(config), run) as prepared:
        collect(prepared)
    assert "heatmap: left out of the scores; scores/parts/heatmap.csv" in capsys.readouterr().err
    assert set(read_per_case(run)["kind"]) == {"floor", "supervised", "weak"}


@pytest.mark.parametrize("step", ["before the list", "before the record"])
def test_what_is_broken_off_before_it_is_recorded_is_made_again(job, copy, monkeypatch, step):
    run, config = copy
    one(run, "masks/gradcam-otsu/seed-0/*.png").unlink()

    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "before the list":
            patch.setattr(base, "list_outputs", stop)
        else:
            patch.setattr(base, "list_outputs", lambda *a: (list_outputs(*a), stop()))
        with pytest.raises(KeyboardInterrupt):
            again(config, run)
    assert SEGMENT not in read_json(run / RECORD)["stages"]
    assert again(config, run) == {SEGMENT}
    assert contents(run) == contents(job[0] / "run")


def test_what_reads_other_results_is_made_again(tmp_path):
    """Where a device does not repeat itself: a stage that is made again may write other files."""
    run, made = Run(tmp_path), []

    def stage(name: str, text: str, inputs: tuple[str, ...] = ()) -> Stage:
        def write(_):
            made.append(name)
            (tmp_path / name).write_text(text)
            return {"n": len(made)}

        return Stage(name, "key", (tmp_path / name,), write, inputs=inputs)

    def both(text: str) -> list[str]:
        made.clear()
        perform(run, stage("a", text))
        perform(run, stage("b", "b", inputs=("a",)))
        return list(made)

    assert both("a") == ["a", "b"]
    assert both("a") == []
    (tmp_path / "a").unlink()
    assert both("a") == ["a"]
    (tmp_path / "a").unlink()
    assert both("other") == ["a", "b"]
    assert run.record["stages"]["b"]["n"] == 2
    assert perform(run, stage("b", "b"), force=True)


def test_a_stage_that_fails_or_has_another_key_is_not_up_to_date(tmp_path):
    run = Run(tmp_path)

    def fail(_):
        raise RuntimeError

    perform(run, Stage("s", "k", (), lambda _: {}))
    assert is_current(run, "s", "k")
    assert not is_current(run, "s", "other")
    with pytest.raises(RuntimeError):
        perform(run, Stage("s", "k", (), fail), force=True)
    assert not is_current(run, "s", "k")
    # What cannot be done is refused before anything is touched.
    perform(run, Stage("s", "k", (), lambda _: {}))
    with pytest.raises(RuntimeError):
        perform(run, Stage("s", "k2", (), lambda _: {}, ready=lambda: fail(None)))
    assert is_current(run, "s", "k")


def test_the_list_holds_sizes_and_hashes_and_is_of_these_outputs(tmp_path):
    (tmp_path / "d/e").mkdir(parents=True)
    for name, text in (("d/a", "one"), ("d/e/b", ""), ("d/.part-x", "half"), ("c", "three")):
        (tmp_path / name).write_text(text)
    outputs = [tmp_path / "d", tmp_path / "c", tmp_path / "not there"]
    entry = {"outputs": list_outputs(tmp_path, "x/y", outputs)}
    assert entry["outputs"]["files"] == 3
    assert entry["outputs"]["bytes"] == 8
    held = json.loads(layout.outputs_file(tmp_path, "x/y").read_text())
    assert list(held) == ["c", "d/a", "d/e/b"]
    assert held["d/a"][0] == 3
    assert held["d/a"][3] == file_hash(tmp_path / "d/a")
    assert find_damage(tmp_path, "x/y", entry) == []
    (tmp_path / "d/e/b").unlink()
    (tmp_path / "c").write_text("THREE")
    (tmp_path / "d/a").write_text("ones")
    damages = find_damage(tmp_path, "x/y", entry)
    assert [(d.path, d.why) for d in damages] == [
        ("c", "holds something else than was written"),
        ("d/a", "is 4 bytes long, 3 were written"),
        ("d/e/b", "is missing"),
    ]
    assert [d.missing for d in damages] == [False, False, True]
    only = find_damage(tmp_path, "x/y", entry, only=[tmp_path / "d/e/b", tmp_path / "z"])
    assert [d.path for d in only] == ["d/e/b", "z"]


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"a": 3}', '{"a": []}', '{"a": ["x", 0, 0, "y"]}', "{}", "\0"]
)
def test_a_damaged_list_is_no_list(tmp_path, text):
    (tmp_path / "a").write_text("x")
    entry = {"outputs": list_outputs(tmp_path, "s", [tmp_path / "a"])}
    layout.outputs_file(tmp_path, "s").write_text(text)
    (damage,) = find_damage(tmp_path, "s", entry)
    assert damage.path == "outputs/s.json"
