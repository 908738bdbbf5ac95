"""Damaged files of a run folder: an error that names the file, or what was lost made again."""

import contextlib
import io
import json
import random
import shutil

import pytest

from tests.damage import copy_run, damages, kinds_of_files, without_lists
from tests.marks import thorough_but
from tests.tiny import weakseg, write_config, write_set

pytestmark = pytest.mark.thorough

CONFIG = """
name: tiny
data: {{manifest: {manifest}, image_size: 48}}
heatmap: {{method: layercam, layer: fused}}
classifier: {{arch: squeezenet1_1, epochs: 1, batch_size: 8, seeds: [0]}}
masks: {{gate: 0.1, rules: [fixed, validation]}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1}}
segmenters:
  weak:
    {{arch: "encoder-unet:squeezenet1_1", masks: layercam-fixed, epochs: 1, steps: 2, batch_size: 4,
      seeds: [0], average: none, gate: run}}
"""
WHOLE = """
equivalence: {{segmenter: unet, patients: [1, 3], draws: 1}}
filtered:
  filters: [hard]
  controls: [random]
  curve: {{percent: [30], rankings: [heat]}}
  epochs: 1
  faithfulness: {{images: 6, percent: [20], steps: 2}}
"""
UNET = """  unet:
    {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 2, batch_size: 4, seeds: [0]}}
"""
ALWAYS = ("empty", "half", "random", "folder", "unreadable")
"""Damages that need no knowledge of what a file holds."""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A finished run; tests damage copies."""
    folder = tmp_path_factory.mktemp("damaged")
    config = write_config(folder, write_set(folder / "data", patients=8, slices=2), CONFIG)
    for command in ("train-classifier", "heatmap-segment", "train-segmenter"):
        assert weakseg(command, config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


def reads(folder, run, config, out):
    """Every command that reads a run."""
    image = next((folder / "data/images").iterdir())
    return {
        "report": ("report", run, "--out", out, "--gallery", 1),
        "predict": ("predict", run, image, "--out", out, "--device", "cpu"),
        "weak": ("predict", run, image, "--out", out, "--device", "cpu", "--method", "weak"),
        "compare": ("compare", config, "--run-dir", run, "--device", "cpu"),
    }


def try_all(job, tmp_path, of_file, commands, *, listed):
    """Damage a copy for every pair of file and damage, and run commands on it; what went wrong."""
    folder, config = job
    wrong, told = [], 0
    for name, damage in of_file:
        for command in commands:
            run = copy_run(folder / "run", tmp_path / "run")
            if not listed:
                without_lists(run)
            damages(folder / "run" / name)[damage](run / name)
            err = io.StringIO()
            with contextlib.redirect_stderr(err):
                code = weakseg(*reads(folder, run, config, tmp_path / "out")[command])
            said = err.getvalue()
            if code not in (0, 2) or "Traceback" in said or "fault of weakseg" in said:
                wrong.append(f"{command} after {name} ({damage}): {code}\n{said}")
            told += code
            shutil.rmtree(run)
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
    return wrong, told


TRIED = {
    "run.json": ["data.splits is -1", "stages is []", "without data.dims", "is null"],
    "config.yaml": ["list"],
    "splits.csv": ["case renamed", "row twice"],
    "scores/summary.csv": ["dice gone", "all dice 'text'"],
    "scores/per_case.csv": ["has_lesion is ''", "row twice"],
    "scores/curves.csv": ["dice is 'text'"],
    "classifier/squeezenet1_1/seed-0/scores.json": ["val.auc_lesion is []"],
    "classifier/squeezenet1_1/seed-0/predictions.csv": ["last row gone", "no header"],
    "classifier/squeezenet1_1/seed-0/best.safetensors": ["labels is 'null'", "tensor renamed"],
    "masks/layercam-validation/threshold.json": ["seed-0.threshold is null", "seed-0 is []"],
    "masks/weak/threshold.json": ['seed-0.inference is "text"'],
    "segmenter/weak/seed-0/settings.json": ['settings.epochs is "text"', "dims is -1"],
}


@pytest.mark.parametrize("name", thorough_but(TRIED, [*TRIED][:5]))
def test_a_damaged_file_is_told_or_made_again(name, job, tmp_path):
    commands = ["weak"] if "segmenter" in name or "/weak/" in name else ["predict", "report"]
    commands = ["report"] if name.startswith("scores/") else commands
    wrong, told = try_all(job, tmp_path, [(name, d) for d in TRIED[name]], commands, listed=False)
    assert not wrong, "\n".join(wrong)
    assert told > 0


def test_file_and_key_are_named(job, tmp_path, capsys):
    folder, _ = job
    run = copy_run(folder / "run", tmp_path / "run")
    path = run / "masks/layercam-validation/threshold.json"
    without_lists(run)
    held = json.loads(path.read_text())
    held["seed-0"]["masks_seen"] = "many"
    path.unlink()
    path.write_text(json.dumps(held))
    assert weakseg("report", run, "--out", tmp_path / "out") == 2
    err = capsys.readouterr().err
    assert f"where: {path}" in err
    assert "seed-0.masks_seen: input should be a valid integer (found 'many')" in err
    assert "--force" in err


def test_patients_are_looked_for_again_where_the_splits_are_lost(tmp_path):
    """Near-duplicates would else stand for patients of their own, on both sides."""
    manifest = write_set(tmp_path / "data", patients=8, slices=2)
    bare = "\n".join(line.rpartition(",")[0] for line in manifest.read_text().splitlines())
    manifest.write_text(bare + "\n")
    config = write_config(tmp_path, manifest, CONFIG)
    told = ["train-classifier", config, "--run-dir", tmp_path / "run", "--device", "cpu"]
    assert weakseg(*told) == 0
    splits = tmp_path / "run/splits.csv"
    before = splits.read_text()
    splits.unlink()
    assert weakseg(*told) == 0
    assert splits.read_text() == before
    rows = before.splitlines()
    splits.write_text("\n".join([rows[0], *reversed(rows[1:])]) + "\n")
    assert weakseg(*told) == 0
    assert splits.read_text() == before


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_every_damage_of_every_file(tmp_path):
    """The grid over all files: two thousand commands, of each file some damages at random."""
    text = CONFIG + UNET + WHOLE
    manifest = write_set(tmp_path / "data", patients=10)
    config = write_config(tmp_path, manifest, text)
    run = tmp_path / "run"
    for args in (["compare"], ["heatmap-segment", "--sweep"], ["compare"]):
        assert weakseg(args[0], config, "--run-dir", run, "--device", "cpu", *args[1:]) == 0
    rng = random.Random(0)
    pairs = []
    for name in kinds_of_files(run):
        known = list(damages(run / name))
        further = [d for d in known if d not in ALWAYS]
        pairs += [(name, d) for d in ALWAYS]
        pairs += [(name, d) for d in rng.sample(further, min(len(further), 6))]
    commands = ["report", "predict", "weak", "compare"]
    for listed in (True, False):
        wrong, _ = try_all((tmp_path, config), tmp_path / "work", pairs, commands, listed=listed)
        assert not wrong, f"{len(wrong)} of {len(pairs) * len(commands)}\n" + "\n".join(wrong)
