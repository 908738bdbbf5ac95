"""Masks of networks, and of what is made of them, in parts: the same bytes as in one piece."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.test_shards import contents
from tests.tiny import weakseg, write_config, write_set
from tests.training.test_together import in_two
from weakseg.config import load_config
from weakseg.layout import BEST, segmenter_folder
from weakseg.stages.prepare import prepared_run
from weakseg.stages.segmenter_masks import with_fitted

pytestmark = pytest.mark.thorough

TINY = """
name: tiny
data: {{manifest: {manifest}, image_size: 64, split: {{test: 0.4}}}}
classifier: {{arch: squeezenet1_1, weights: none, epochs: 1, batch_size: 8}}
heatmap: {{batch_size: 4}}
masks: {{rules: [otsu, {{rule: fixed, at: 0.4}}], gate: none}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 0}}
segmenters:
  net: {{arch: "encoder-unet:squeezenet1_1", weights: none, epochs: 1, steps: 1, batch_size: 2,
        average: none, seeds: [0, 1]}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", weights: none, epochs: 1, steps: 1, batch_size: 2,
        average: none, seeds: [0], masks: net, neighbours: 0.9, gate: 0.37}}
consensus:
  two: {{methods: [gradcam-otsu, gradcam-fixed], vote: any}}
  sure: {{methods: [two, net, pupil], vote: mean, at: 0.3}}
"""


def do(config: Path, run: Path, command: str, *words: str) -> int:
    return weakseg(command, config, "--run-dir", run, *words)


def at_once(commands: Sequence[tuple[object, ...]]) -> list[int]:
    """Exit codes of commands that run at the same time, each in a process of its own."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=lambda c=c: exit(weakseg(*c))) for c in commands]
    for p in processes:
        p.start()
    for p in processes:
        p.join(300)
    return [p.exitcode for p in processes]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> tuple[Path, Path, Path]:
    """An experiment, its run with all rules and thresholds fitted, and one made in one piece."""
    folder = tmp_path_factory.mktemp("shards")
    config = write_config(folder, write_set(folder / "data", patients=6), TINY)
    run, whole = folder / "fitted", folder / "whole"
    assert do(config, run, "train-classifier") == 0
    shutil.copytree(run, whole)
    for command in ("heatmap-segment", "train-segmenter"):
        assert do(config, whole, command) == 0
        assert do(config, run, command, "--fit") == 0
    assert sorted(p.name for p in (run / "shards/fitted").iterdir()) == [
        *("gradcam-fixed", "gradcam-otsu", "left-out.json", "net", "pupil")
    ]
    assert not (run / "masks").exists()
    return config, run, whole


def test_joined_masks_are_the_whole(fitted, tmp_path, capsys, monkeypatch):
    config, before, whole = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    for which in ("4/4", "1/4", "2/4", "3/4"):  # of 6 images, 3 a patient
        assert do(config, run, "heatmap-segment", "--shard", which) == 0
        assert do(config, run, "train-segmenter", "--shard", which) == 0
    own = run / "shards/2-of-4/masks"
    assert sorted(p.name for p in own.iterdir()) == [
        *("gradcam-fixed", "gradcam-otsu", "net", "pupil", "sure", "two")
    ]
    assert len(list((own / "sure").rglob("*.png"))) == 2 * 2  # of both seeds
    capsys.readouterr()
    assert do(config, run, "train-segmenter", "--shard", "2/4") == 0
    said = capsys.readouterr().err
    for name in ("net", "pupil", "two", "sure"):
        assert f"masks of {name}, shard 2/4: up to date" in said
    with monkeypatch.context() as nothing_is_left:
        nothing_is_left.setattr("weakseg.stages.segment._make", None)
        nothing_is_left.setattr("weakseg.stages.heat_masks._make", None)
        assert do(config, run, "heatmap-segment") == 0
        assert "stays in" not in capsys.readouterr().err
        # What others join waits for them.
        assert sorted(p.name for p in own.iterdir()) == ["net", "pupil", "sure"]
        assert sorted(p.name for p in (run / "shards/fitted").iterdir()) == ["net", "pupil"]
        assert do(config, run, "train-segmenter") == 0
    assert contents(run) == contents(whole)
    assert not (run / "shards").exists()
    stages = [json.loads((r / "run.json").read_text())["stages"] for r in (run, whole)]
    assert stages[0].keys() == stages[1].keys()
    for name in ("net", "pupil", "two", "sure"):
        one, other = (s[f"masks/{name}"] for s in stages)
        for entry in one.keys() | other.keys():
            if entry not in ("ended", "seconds"):
                assert one[entry] == other[entry]
    capsys.readouterr()
    assert do(config, run, "train-segmenter", "--fit") == 0
    assert do(config, run, "train-segmenter", "--shard", "2/4") == 0
    assert capsys.readouterr().err.count("masks of net: up to date, there is nothing to do") == 2
    assert not (run / "shards/fitted").exists()


def test_a_fitted_segmenter_without_its_weights_stops_no_other(fitted, tmp_path):
    config, before, _ = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    others = {"gradcam-fixed", "gradcam-otsu", "pupil"}
    with prepared_run(load_config(config), run, dry_run=True) as prepared:
        assert with_fitted(prepared).fitted.keys() == {"net", *others}
        (segmenter_folder(run, "net", 1) / BEST).unlink()
        assert with_fitted(prepared).fitted.keys() == others


def test_lost_shards_are_named_and_made_again_alone(fitted, tmp_path, capsys, monkeypatch):
    config, before, whole = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    assert do(config, run, "heatmap-segment") == 0
    for which in ("1/3", "2/3", "3/3"):
        assert do(config, run, "train-segmenter", "--shard", which) == 0
    shutil.rmtree(run / "shards/1-of-3")
    next((run / "shards/3-of-3/masks/net").rglob("*.png")).write_bytes(b"damaged")
    next((run / "shards/3-of-3/masks/sure").rglob("*.png")).write_bytes(b"damaged")
    kept = {p: p.stat().st_mtime_ns for p in (run / "shards/3-of-3/masks/pupil").rglob("*.png")}
    with monkeypatch.context() as broken:  # breaks off when some are taken
        broken.setattr("weakseg.stages.segment._make", None)
        assert do(config, run, "train-segmenter") == 1
    assert not (run / "masks/net").exists()
    capsys.readouterr()
    assert do(config, run, "train-segmenter", "--shard", "3/3") == 0
    said = capsys.readouterr().err
    assert "masks of net, shard 3/3: made again: masks/net/seed-0/" in said
    assert "masks of pupil, shard 3/3: up to date" in said
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    assert do(config, run, "train-segmenter") == 0
    said = capsys.readouterr().err
    for name in ("net", "pupil", "sure"):
        assert f"masks/{name}: shard 1/3 is not there; 2 test files get their masks here" in said
    assert contents(run) == contents(whole)


def test_shards_without_networks_or_thresholds_are_refused(fitted, tmp_path, capsys):
    config, before, _ = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    only = ("--only", "net")
    capsys.readouterr()
    assert do(config, run, "train-segmenter", "--shard", "1/2", "--fit") == 2
    assert "Of --shard and --fit there can be one" in capsys.readouterr().err
    other = ("--set", "segmenters.net.epochs=2", *only, "--shard", "1/2")
    assert do(config, run, "train-segmenter", *other) == 2
    said = capsys.readouterr().err
    assert "net is not trained with these settings" in said
    assert "found: no such network of seed 0, 1" in said
    assert do(config, run, "train-segmenter", *only, "--shard", "1/2") == 0
    other = ("--set", "segmenters.net.threshold=0.7", *only)
    capsys.readouterr()
    assert do(config, run, "train-segmenter", *other, "--shard", "1/2") == 2
    said = capsys.readouterr().err
    assert "The threshold of net is not chosen" in said
    assert "train-segmenter CONFIG --fit" in said
    assert do(config, run, "train-segmenter", *other) == 0
    said = capsys.readouterr().err
    assert "masks/net: shard 1/2 is left out: it is of other settings" in said
    assert "shard 1/2 stays in" in said


def test_shards_that_are_made_at_the_same_time_are_joined(fitted, tmp_path, capfd):
    config, before, whole = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    shutil.rmtree(run / "heatmaps")

    def parts(command):
        return [(command, config, "--run-dir", run, "--shard", f"{k}/2") for k in (1, 2)]

    assert at_once(parts("heatmap-segment")) == [0, 0]  # their heatmaps
    assert do(config, run, "heatmap-segment", "--fit") == 0
    assert at_once(parts("heatmap-segment")) == [0, 0]
    assert at_once(parts("train-segmenter")) == [0, 0]
    capfd.readouterr()
    for command in ("heatmap-segment", "train-segmenter"):
        assert do(config, run, command) == 0
    assert "get their masks here" not in capfd.readouterr().err
    assert contents(run) == contents(whole)
    assert not (run / "shards").exists()
    # One shard twice at once: the second is refused, whichever it is, or comes when all is done.
    twice = parts("train-segmenter")[:1] * 2
    assert sorted(at_once(twice)) in ([0, 0], [0, 2])
    assert contents(run) == contents(whole)


def test_two_processes_of_a_launcher_train_and_fit_for_shards(fitted, tmp_path):
    config, before, _ = fitted
    run = tmp_path / "run"
    shutil.copytree(before, run)
    words = ("train-segmenter", config, "--run-dir", run, "--force")
    assert in_two(lambda: weakseg(*words, "--fit")) == [0, 0]
    made = json.loads((run / "run.json").read_text())["stages"]
    for name, seed in (("net", 0), ("net", 1), ("pupil", 0)):
        assert made[f"segmenter/{name}/{seed}"]["processes"] == 2
    assert not (run / "masks/net").exists()
    kept = {n: (run / f"shards/fitted/{n}/threshold.json").read_bytes() for n in ("net", "pupil")}
    assert in_two(lambda: weakseg(*words[:4], "--shard", "rank")) == [0, 0]
    assert do(config, run, "train-segmenter") == 0
    assert {n: (run / f"masks/{n}/threshold.json").read_bytes() for n in kept} == kept
