"""Heatmaps in parts: the same bytes as in one piece, and a lost part alone is made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread, Timer
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.tiny import weakseg, write_config, write_set
from tests.training.test_together import in_two
from weakseg.data.cases import Case
from weakseg.errors import ConfigError, RunError
from weakseg.layout import heatmap_file
from weakseg.methods.rows import Rows
from weakseg.methods.shard_rows import read_shard_rows, write_shard_rows
from weakseg.predicting.shards import Told, asked_for, forget_parts, held, read_parts, write_part
from weakseg.runs import Run, file_hash, locked
from weakseg.shards import Shard, parse_shard
from weakseg.stages.base import Stage, perform
from weakseg.stages.shards import CHOSEN, forget_shards, shard_key, taken_from_shards
from weakseg.training.loop import pick_device

TINY = """
name: tiny
data: {{manifest: {manifest}, image_size: 64}}
classifier: {{arch: squeezenet1_1, weights: none, epochs: 1, batch_size: 8}}
heatmap: {{batch_size: 4}}
masks: {{rules: [otsu, train-quantile, validation, oracle-image]}}
scores: {{bootstrap: 100}}
report: {{gallery: 0}}
"""


@given(st.lists(st.integers(), unique=True, max_size=40), st.integers(1, 12))
def test_every_item_is_in_one_shard(items, of):
    parts = [Shard(k, of).own(items) for k in range(1, of + 1)]
    assert [i for part in parts for i in part] == items
    sizes = [len(p) for p in parts]
    assert max(sizes) - min(sizes) <= 1


def test_how_a_shard_is_written(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert parse_shard("2/8") == Shard(2, 8)
    for wrong in ("0/8", "9/8", "2", "2/", "a/b", "-1/8", "1/0", "1/100000", "rank"):
        with pytest.raises(ConfigError, match="shard"):
            parse_shard(wrong)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert parse_shard("rank") == Shard(1, 4)
    array_task(monkeypatch, 7, 5, 7, 3)
    assert parse_shard("rank") == Shard(3, 3)
    launch = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    assert parse_shard("rank") == Shard(2, 2)


def array_task(monkeypatch, task, first, last, count):
    """Be a task of an array of Slurm."""
    for name, value in zip(("ID", "MIN", "MAX", "COUNT"), (task, first, last, count), strict=True):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))


@pytest.mark.parametrize("task", [(7, 3, 7, 2), (3, 1, 15, 8), (9, 5, 7, 3), ("", 1, 2, 2)])
def test_an_array_with_gaps_does_not_say_which_shard_it_is(monkeypatch, task):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setenv("SLURM_PROCID", "0")  # as Slurm does in arrays, too
    monkeypatch.setenv("SLURM_NTASKS", "1")
    array_task(monkeypatch, *task)
    with pytest.raises(ConfigError, match="do not count by 1") as e:
        parse_shard("rank")
    assert "--shard 2/8" in str(e.value.fix)


def test_processes_beside_each_other_take_a_gpu_each(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    for name in ("LOCAL_RANK", "SLURM_LOCALID", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert pick_device("auto") == "cuda"
    for local, device in (("0", "cuda"), ("3", "cuda:3"), ("6", "cuda:2")):
        monkeypatch.setenv("SLURM_LOCALID", local)
        assert (pick_device("auto"), pick_device("cuda")) == (device, device)
    assert pick_device("cuda:1") == "cuda:1"
    launch = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    assert pick_device("cuda") == "cuda"  # one training of both: Fabric deals the devices out
    assert parse_shard("rank") == Shard(2, 2)
    assert pick_device("cuda") == "cuda:1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path, Path]:
    """An experiment, its run with a classifier, and the same run with everything in one piece."""
    folder = tmp_path_factory.mktemp("shards")
    config = write_config(folder, write_set(folder / "data", patients=6), TINY)
    run, whole = folder / "trained", folder / "whole"
    assert weakseg("train-classifier", config, "--run-dir", run) == 0
    shutil.copytree(run, whole)
    assert weakseg("heatmap-segment", config, "--run-dir", whole) == 0
    return config, run, whole


def contents(run: Path) -> dict[str, bytes]:
    """What is made by heatmap-segment, by path."""
    return {
        p.relative_to(run).as_posix(): p.read_bytes()
        for top in ("heatmaps", "masks", "scores")
        for p in sorted((run / top).rglob("*"))
        if p.is_file()
    }


def shard(config: Path, run: Path, which: str) -> int:
    return weakseg("heatmap-segment", config, "--run-dir", run, "--shard", which)


def test_joined_shards_are_the_whole(trained, tmp_path, capsys, monkeypatch):
    config, before, whole = trained
    run = tmp_path / "run"
    shutil.copytree(before, run)
    for which in ("2/3", "1/3", "3/3"):
        assert shard(config, run, which) == 0
    assert len(list((run / "shards/2-of-3").rglob("*.npz"))) == 6
    assert not (run / "heatmaps").exists()
    capsys.readouterr()
    assert shard(config, run, "2/3") == 0
    assert "shard 2/3: up to date" in capsys.readouterr().err
    monkeypatch.setattr("weakseg.stages.heatmaps.run_explainer", None)  # nothing is left to explain
    assert weakseg("heatmap-segment", config, "--run-dir", run) == 0
    assert contents(run) == contents(whole)
    assert not (run / "shards").exists()
    stages = [json.loads((r / "run.json").read_text())["stages"] for r in (run, whole)]
    heats = "heatmaps/squeezenet1_1/seed-0/gradcam"
    for entry in ("key", "images", "flat", "layer"):
        assert stages[0][heats][entry] == stages[1][heats][entry]
    assert stages[0][heats].keys() == stages[1][heats].keys()


def in_shards(config: Path, run: Path, which: Sequence[str]) -> None:
    for one in which:
        assert shard(config, run, one) == 0


@pytest.fixture(scope="module")
def fitted(trained) -> tuple[Path, Path, Path]:
    """The experiment, its run with joined heatmaps and fitted rules, and the whole."""
    config, before, whole = trained
    run = before.parent / "fitted"
    shutil.copytree(before, run)
    in_shards(config, run, ["1/2", "2/2"])
    assert weakseg("heatmap-segment", config, "--run-dir", run, "--fit") == 0
    assert [p.name for p in (run / "shards").iterdir()] == ["fitted"]
    assert not (run / "masks").exists()
    return config, run, whole


@pytest.mark.thorough
def test_joined_masks_and_scores_are_the_whole(fitted, tmp_path, capsys, monkeypatch):
    config, before, whole = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    in_shards(config, run, ["3/3", "1/3", "2/3"])
    assert len(list((run / "shards/2-of-3/masks/gradcam-otsu").rglob("*.png"))) == 1
    capsys.readouterr()
    assert weakseg("heatmap-segment", config, "--run-dir", run, "--fit") == 0
    assert shard(config, run, "2/3") == 0
    said = capsys.readouterr().err
    assert "rules of heatmaps: up to date" in said
    assert "masks of heatmaps, shard 2/3: up to date" in said
    assert "stays in" not in said
    with monkeypatch.context() as nothing_is_left:
        nothing_is_left.setattr("weakseg.stages.heat_masks._make", None)
        nothing_is_left.setattr("weakseg.stages.scoring.floor_rows", None)
        nothing_is_left.setattr("weakseg.stages.heatmap_segment.fit_rules", None)
        assert weakseg("heatmap-segment", config, "--run-dir", run) == 0
    assert contents(run) == contents(whole)
    assert not (run / "shards").exists()
    stages = [json.loads((r / "run.json").read_text())["stages"] for r in (run, whole)]
    assert stages[0].keys() == stages[1].keys()
    for name in ("segment", "floors", "scores"):
        for entry in stages[0][name].keys() | stages[1][name].keys():
            if entry not in ("ended", "seconds"):
                assert stages[0][name][entry] == stages[1][name][entry]
    capsys.readouterr()
    assert shard(config, run, "2/3") == 0
    assert "masks of heatmaps: up to date, there is nothing" in capsys.readouterr().err


@pytest.mark.thorough
def test_lost_shards_of_masks_are_named_and_made_again_alone(fitted, tmp_path, capsys, monkeypatch):
    config, before, whole = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    in_shards(config, run, ["1/3", "2/3", "3/3"])
    shutil.rmtree(run / "shards/1-of-3")
    next((run / "shards/3-of-3").rglob("*.png")).write_bytes(b"damaged")
    with monkeypatch.context() as broken:  # breaks off when some are taken
        broken.setattr("weakseg.stages.heat_masks._make", None)
        assert weakseg("heatmap-segment", config, "--run-dir", run) == 1
    assert not (run / "masks").exists()
    assert shard(config, run, "3/3") == 0
    capsys.readouterr()
    assert weakseg("heatmap-segment", config, "--run-dir", run) == 0
    said = capsys.readouterr().err
    assert "segment: shard 1/3 is not there; 1 test files get their masks here" in said
    assert "floors: shard 1/3 is not there; 1 test files get their floors here" in said
    assert contents(run) == contents(whole)


def test_masks_of_other_rules_are_not_joined(fitted, tmp_path, capsys):
    config, before, _ = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    assert shard(config, run, "1/1") == 0
    other = ("--set", "masks.rules=[otsu, fixed]")
    capsys.readouterr()
    assert weakseg("heatmap-segment", config, "--run-dir", run, "--shard", "1/1", *other) == 2
    said = capsys.readouterr().err
    assert "the rules are not fitted to them" in said
    assert "heatmap-segment CONFIG --fit" in said
    assert weakseg("heatmap-segment", config, "--run-dir", run, *other) == 0
    said = capsys.readouterr().err
    assert "segment: shard 1/1 is left out: it is of other settings" in said
    assert "shard 1/1 stays in" in said
    assert not (run / "shards/fitted").exists()
    assert sorted(p.name for p in (run / "masks").iterdir() if p.is_dir()) == [
        "gradcam-fixed",
        "gradcam-otsu",
    ]


@pytest.mark.thorough
def test_shards_of_a_launcher_know_each_other(fitted, tmp_path, capfd):
    """Two at once, which torchrun might have started, of heatmaps and then of masks."""
    config, before, whole = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    words = ("heatmap-segment", config, "--run-dir", run, "--shard", "rank")
    assert in_two(lambda: weakseg(*words)) == [0, 0]
    assert sorted(p.name for p in (run / "shards").iterdir()) == ["1-of-2", "2-of-2", "fitted"]
    assert weakseg("heatmap-segment", config, "--run-dir", run) == 0
    assert "is left out" not in capfd.readouterr().err
    assert contents(run) == contents(whole)


@pytest.mark.thorough
def test_what_may_be_done_to_a_run_while_a_shard_of_it_is_made(
    trained, tmp_path, capsys, monkeypatch
):
    config, _, whole = trained
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = contents(run)
    of_run = (config, "--run-dir", run)
    with locked(run / "shards/1-of-2"):
        # What only reads goes on.
        assert weakseg("report", run, "--out", tmp_path / "page") == 0
        image = next((config.parent / "data/images").iterdir())
        assert weakseg("predict", run, image, "--out", tmp_path / "new") == 0
        capsys.readouterr()
        for command in ("compare", "train-classifier", "heatmap-segment"):
            assert weakseg(command, *of_run) == 2
            assert "found: shard 1/2" in capsys.readouterr().err
        assert weakseg("heatmap-segment", *of_run, "--fit") == 2
        assert shard(config, run, "1/2") == 2
        said = capsys.readouterr().err
        assert "Shard 1/2 of the run is in use by another weakseg command" in said
        assert "wait until it ends, or name another shard" in said
    assert contents(run) == before
    monkeypatch.setattr("weakseg.stages.prepare.PATIENCE", 0.01)
    with locked(run):
        assert shard(config, run, "1/2") == 2
        said = capsys.readouterr().err
        assert "waiting for it, up to 0.01 seconds" in said
        assert "in use by another weakseg command" in said
        assert weakseg("report", run, "--out", tmp_path / "page") == 0
        capsys.readouterr()
        assert weakseg("compare", *of_run) == 2
        assert "in use by another weakseg command" in capsys.readouterr().err
    assert contents(run) == before


def test_rows_of_shards_keep_their_last_digit(tmp_path):
    rows = Rows()
    rows.cases.append({"dice": np.float64(0.1) * 3, "hd95": np.inf, "flat": np.bool_(True)})
    rows.volumes.append({"nsd": np.nan, "name": "ü", "n": np.int64(3)})
    write_shard_rows(tmp_path / "rows.json", [rows, Rows()], [[np.array([1 / 3, 0])], []])
    [first, second], dice = read_shard_rows(tmp_path / "rows.json")
    assert list(first.cases) == [{"dice": 0.1 * 3 + 0, "hd95": np.inf, "flat": True}]
    [volume] = first.volumes
    assert np.isnan(volume.pop("nsd"))
    assert volume == {"name": "ü", "n": 3}
    assert [len(t) for t in (second.cases, second.volumes, second.lesions)] == [0, 0, 0]
    assert dice == [[[1 / 3, 0.0]], []]
    (tmp_path / "rows.json").write_text('{"cases": []}')
    with pytest.raises(RunError, match="damaged"):
        read_shard_rows(tmp_path / "rows.json")


@pytest.mark.thorough
def test_a_lost_shard_is_named_and_made_again_alone(trained, tmp_path, capsys, monkeypatch):
    config, before, whole = trained
    run = tmp_path / "run"
    shutil.copytree(before, run)
    graph = run / "graphs/.part-1"  # another shard may be writing it
    graph.parent.mkdir()
    graph.touch()
    for which in ("1/3", "2/3", "3/3", "2/2"):
        assert shard(config, run, which) == 0
    assert graph.exists()
    shutil.rmtree(run / "shards/2-of-3")
    next((run / "shards/3-of-3").rglob("*.npz")).write_bytes(b"damaged")
    kept = {p: p.stat().st_mtime_ns for p in (run / "shards/1-of-3").rglob("*.npz")}
    capsys.readouterr()
    with locked(run / "shards/1-of-3"):
        assert weakseg("heatmap-segment", config, "--run-dir", run) == 2
        assert "Shards of the run are being made" in capsys.readouterr().err
        assert shard(config, run, "1/3") == 2
        assert "in use by another" in capsys.readouterr().err
    assert shard(config, run, "3/3") == 0
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    with monkeypatch.context() as broken:
        broken.setattr(
            "weakseg.stages.heatmaps.run_explainer", None
        )  # breaks off when some are taken
        assert weakseg("heatmap-segment", config, "--run-dir", run) == 1
    assert not graph.exists()
    assert all(p.exists() for p in kept)
    shutil.copytree(run / "shards/2-of-2", run / "shards/1-of-1")  # a shard of other images
    record = run / "shards/2-of-2/run.json"
    record.write_text(record.read_text().replace('"key": "', '"key": "x'))
    capsys.readouterr()
    assert weakseg("heatmap-segment", config, "--run-dir", run) == 0
    said = capsys.readouterr().err
    assert "shard 2/3 is not there; 6 heatmaps are made here" in said
    assert "shard 2/2 is left out: it is of other settings, data or networks" in said
    assert "shard 2/2 stays in" in said
    assert [p.name for p in (run / "shards").iterdir()] == ["1-of-1", "2-of-2"]
    assert contents(run) == contents(whole)


def test_shards_that_are_not_what_is_wanted_are_left_out(tmp_path, capsys):
    """Of a stage that wanted fewer images, or whose labels have chosen otherwise."""
    heats = tmp_path / "heatmaps"
    path = tmp_path / "shards/2-of-3"
    there = heatmap_file(path / "heatmaps", "b")
    there.parent.mkdir(parents=True)
    there.write_bytes(b"x")
    run = Run(path)
    stage = Stage("stage", shard_key("key", Shard(2, 3)), (path / "heatmaps",), lambda _: {})
    about = {"images": 1, CHOSEN: "chosen"}
    perform(run, replace(stage, run=lambda _: about))

    def taken(wanted, key="key", chosen="chosen"):
        return list(taken_from_shards(tmp_path, "stage", key, heats, wanted, chosen).where)

    assert taken(["a", "b", "c"]) == ["b"]
    capsys.readouterr()
    for wanted in (["a", "x", "c"], list("xyabzc")):
        assert taken(wanted) == []
        assert "shard 2/3 is left out: it is of other images" in capsys.readouterr().err
    assert taken(["a", "b", "c"], chosen="other") == []
    assert "choose otherwise now" in capsys.readouterr().err
    assert taken(["a", "b", "c"], key="other") == []
    forget_shards(tmp_path, {"stage": "other"})
    assert there.exists()
    forget_shards(tmp_path, {"stage": "key"})
    assert not (tmp_path / "shards").exists()


def test_what_is_joined_goes_from_a_shard_and_what_others_join_stays(tmp_path, capsys):
    run = Run(tmp_path / "shards/1-of-2")
    for stage in ("segment", "masks/net"):
        folder = run.folder / stage
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"x")
        perform(run, Stage(stage, shard_key("key", Shard(1, 2)), (folder,), lambda _: {}))
    forget_shards(tmp_path, {"segment": "key"}, but=lambda stage: stage == "masks/net")
    assert capsys.readouterr().err == ""
    assert list(run.record["stages"]) == ["masks/net"]
    left = {p.relative_to(run.folder).as_posix() for p in run.folder.rglob("*") if p.is_file()}
    assert left == {"run.json", "masks/net/a.png", "outputs/masks/net.json"}
    assert not (run.folder / "segment").exists()
    forget_shards(tmp_path, {"segment": "key"})
    assert "shard 1/2 stays in" in capsys.readouterr().err
    forget_shards(tmp_path, {"masks/net": "key"})
    assert not (tmp_path / "shards").exists()


def test_shards_that_would_choose_for_themselves_are_refused(trained, capsys):
    config, run, _ = trained
    words = ("heatmap-segment", config, "--run-dir", run, "--shard", "1/2")
    assert weakseg(*words, "--set", "engine=auto") == 2
    assert "choose an engine of their own" in capsys.readouterr().err
    for beside in ("--sweep", "--fit"):
        assert weakseg(*words, beside) == 2
        assert "Of --shard, --fit and --sweep there can be one" in capsys.readouterr().err
    shutil.rmtree(run / "shards", ignore_errors=True)


def predicted(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def test_a_shard_waits_for_who_only_looks(tmp_path, monkeypatch):
    holds, done = Event(), Event()

    def look():
        with locked(tmp_path / "shards/1-of-2"):
            holds.set()
            done.wait(20)

    looker = Thread(target=look)
    looker.start()
    assert holds.wait(20)
    with monkeypatch.context() as hurried:
        hurried.setattr("weakseg.predicting.shards.PATIENCE", 0)
        with pytest.raises(RunError, match="Shard 1/2 of the prediction is in use"):
            held(tmp_path, Shard(1, 2)).__enter__()
    Timer(0.02, done.set).start()
    with held(tmp_path, Shard(1, 2)):
        looker.join()


@pytest.mark.thorough
def test_joined_predictions_are_those_in_one_piece(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("weakseg.predicting.shards.PATIENCE", 0)
    config, _, whole = trained
    words = ("predict", whole, config.parent / "data/images", "--heatmaps", "--out")
    assert weakseg(*words, tmp_path / "one") == 0
    out = tmp_path / "parts"
    for which in ("3/3", "1/3", "2/3"):
        assert weakseg(*words, out, "--shard", which) == 0
    assert not (out / "predictions.csv").exists()
    (out / "shards/2-of-3.json").unlink()
    gone = next(p for p in json.loads((out / "shards/1-of-3.json").read_text())["told"])
    (out / f"{gone}.png").unlink()
    kept = (
        out / f"{next(p for p in json.loads((out / 'shards/3-of-3.json').read_text())['told'])}.png"
    )
    before = kept.stat().st_mtime_ns
    capsys.readouterr()
    with locked(out / "shards/2-of-3"):
        assert weakseg(*words, out) == 2
        said = capsys.readouterr().err
        assert "Shards of the prediction are being made" in said
        assert "found: shard 2/3" in said
        assert weakseg(*words, out, "--shard", "2/3") == 2
        assert "Shard 2/3 of the prediction is in use" in capsys.readouterr().err
    assert weakseg(*words, out) == 0
    said = capsys.readouterr().err
    assert "shard 2/3 is not there; its images are predicted here" in said
    assert "the masks of 1 image of shards are missing or others" in said
    assert kept.stat().st_mtime_ns == before
    assert predicted(out) == predicted(tmp_path / "one")


def test_parts_of_another_prediction_are_not_joined(trained, tmp_path, capsys):
    config, _, whole = trained
    words = ("predict", whole, config.parent / "data/images", "--out", tmp_path)
    assert weakseg(*words, "--shard", "1/2") == 0
    (tmp_path / "shards/2-of-2.json").write_text("{")
    capsys.readouterr()
    assert weakseg(*words, "--heatmaps") == 0
    said = capsys.readouterr().err
    assert "shard 2/2 is left out" in said
    assert "shard 1/2 is left out: it is of other inputs" in said
    assert len(list((tmp_path / "heatmaps").glob("*.npz"))) == 18
    # Nobody has joined them: they are not this prediction's to delete.
    assert {p.name for p in (tmp_path / "shards").iterdir()} == {"1-of-2.json", "2-of-2.json"}


def test_shards_of_files_of_which_some_cannot_be_read(trained, tmp_path, capsys):
    _, _, whole = trained
    images = tmp_path / "images"
    images.mkdir()
    for i in range(4):  # larger than all that the run has learnt from
        side = np.random.default_rng(i).integers(0, 255, (600, 600), np.uint8)
        Image.fromarray(side).save(images / f"b{i}.png")
    for name in ("a0", "a1", "a2"):
        (images / f"{name}.png").write_bytes(b"no picture")
    words = ("predict", whole, images, "--skip-unreadable", "--out")
    assert weakseg(*words, tmp_path / "one") == 0
    out = tmp_path / "parts"
    for which in ("1/3", "2/3", "3/3"):
        assert weakseg(*words, out, "--shard", which) == 0
    assert json.loads((out / "shards/1-of-3.json").read_text())["told"] == {}
    capsys.readouterr()
    assert weakseg(*words, out) == 0
    assert "warning: 4 of 4 images are unlike" in capsys.readouterr().err
    assert predicted(out) == predicted(tmp_path / "one")
    for good in images.glob("b*.png"):
        good.unlink()
    assert weakseg(*words, out, "--shard", "1/1") == 0
    assert weakseg(*words, out) == 2
    assert "3 of 3 files cannot be read" in capsys.readouterr().err


def test_what_makes_a_prediction_another_one(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    image, other, roi = (tmp_path / f"{n}.png" for n in ("image", "other", "roi"))
    for file in (image, other, roi):
        file.write_bytes(b"x")
    series = tmp_path / "series"
    series.mkdir()
    method = SimpleNamespace(name="m", seeds=(0,))

    def key(case, named=None, options=("torch",)):
        return asked_for(tmp_path, method, [case], named or {}, options)

    one = Case("a", image, "")
    keys = [
        key(one),
        key(replace(one, image=other)),  # of the same name in another folder
        key(replace(one, more=(roi,))),
        key(replace(one, roi=roi)),
        key(one, {image: [1]}),
        key(one, {image: [2]}),
        key(one, options=("openvino",)),
        key(replace(one, image=series)),
    ]
    (series / "1.dcm").write_bytes(b"x")
    keys.append(key(replace(one, image=series)))
    assert key(one) == keys[0]
    image.write_bytes(b"xy")
    keys.append(key(one))
    os.utime(image, ns=(1, 1))
    keys.append(key(one))
    assert len(set(keys)) == len(keys)


def test_a_prediction_stays_the_same_while_a_run_is_only_looked_at(tmp_path):
    stages = {
        "segment": {"key": "k", "seconds": 1.0, "outputs": {"hash": "a", "files": 1, "bytes": 1}},
        "report": {"key": "k", "outputs": {"hash": "b", "files": 1, "bytes": 1}},
        "masks/net": {"key": "of a run before there were lists"},
    }
    method = SimpleNamespace(name="m", seeds=(0,))

    def key(took=1.0, **changes):
        made = {n: {**e, **changes.get(n.replace("/", "_"), {})} for n, e in stages.items()}
        record = {"stages": made, "took": {"segment": took}}
        (tmp_path / "run.json").write_text(json.dumps(record))
        return asked_for(tmp_path, method, [], {}, [])

    first = key()
    other = {"outputs": {"hash": "c", "files": 1, "bytes": 1}}
    assert key(took=2.0, segment={"ended": "now", "seconds": 3.0}, report=other) == first
    keys = [first, key(segment=other), key(masks_net={"key": "another"})]
    for name in ("config.yaml", "masks/config.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("name: x")
        keys.append(key())
    assert len(set(keys)) == len(keys)


def test_masks_that_another_prediction_has_written_over_are_not_joined(tmp_path, capsys):
    mask = tmp_path / "a.png"
    mask.write_bytes(b"first")
    told = {"a": Told({"mask": "a.png"}, files={"a.png": file_hash(mask)})}
    write_part(tmp_path, Shard(1, 1), "key", told)
    write_part(tmp_path, Shard(1, 2), "key", {})
    assert read_parts(tmp_path, "key", ["a"], "image") == told
    assert "shard 1/2 is left out: those of 1 tell of more" in capsys.readouterr().err
    mask.write_bytes(b"second")
    assert read_parts(tmp_path, "key", ["a"], "image") == {}
    assert "missing or others" in capsys.readouterr().err
    forget_parts(tmp_path, "key")
    assert not (tmp_path / "shards").exists()


def test_missing_shards_are_told_as_many_and_with_the_word_for_their_inputs(tmp_path, capsys):
    for name in "ab":
        (tmp_path / f"{name}.nii.gz").write_bytes(b"x")
    files = {name: {f"{name}.nii.gz": "another"} for name in "ab"}
    write_part(tmp_path, Shard(1, 3), "key", {n: Told({}, files=f) for n, f in files.items()})
    assert read_parts(tmp_path, "key", ["a", "b"], "volume") == {}
    said = capsys.readouterr().err
    assert "shards 2/3, 3/3 are not there; their volumes are predicted here" in said
    assert "the masks of 2 volumes of shards are missing" in said
