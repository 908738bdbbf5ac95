"""Segmenters whose masks are those of the mean of several networks, by the command line."""

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests.test_segment_volumes import write_volumes
from tests.tiny import cases, pixels, read_rows, tumours, weakseg, write_config, write_set
from weakseg.config import curve_fingerprint, parse_config
from weakseg.errors import RunError, count
from weakseg.methods.fingerprints import segmenter_fingerprint
from weakseg.methods.segmenter_networks import Networks
from weakseg.runs import read_json
from weakseg.scores import dice
from weakseg.scores.on_labels import OnLabels
from weakseg.scores.stored import read_per_case, read_summary
from weakseg.stages import train_segmenter

pytestmark = pytest.mark.thorough

CONFIG = """
name: mean
data: {{manifest: {manifest}, image_size: 32, split: {{val: 0.08, test: 0.25}}}}
classifier: {{seeds: [0, 1]}}
scores: {{bootstrap: 100, floors: false}}
report: {{gallery: 1}}
segmenters:
  mean: {{arch: "encoder-unet:squeezenet1_1", epochs: 1, steps: 6, batch_size: 4, average: none,
         ensemble: true, recalibrate: true, threshold: 0.3}}
  pupil: {{arch: "encoder-unet:squeezenet1_1", masks: mean, epochs: 1, steps: 1, batch_size: 4,
          seeds: [1]}}
"""
ALONE = ("--set", "segmenters.mean.ensemble=false")


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """One training; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("ensembles")
    config = write_config(folder, write_set(folder / "data"), CONFIG)
    assert weakseg("train-segmenter", config, "--run-dir", folder / "run", "--device", "cpu") == 0
    return folder, config


@pytest.fixture
def copy(job, tmp_path):
    """A copy of its run, to be changed."""
    return Path(shutil.copytree(job[0] / "run", tmp_path / "run"))


def weights(run):
    return {p: p.stat().st_mtime_ns for p in (run / "segmenter").rglob("best.safetensors")}


def probabilities(run, images, out, *args):
    """Probability and mask of each image, by `predict`."""
    command = ("predict", run, *images, "--method", "mean", "--out", out, "--heatmaps")
    assert weakseg(*command, *args) == 0
    return {
        p.stem: (
            np.load(out / "heatmaps" / f"{p.stem}.npz")["probability"].astype(float),
            pixels(out / p.name) == 255,
        )
        for p in images
    }


def test_it_is_one_row_of_two_networks_that_saw_the_same_masks(job):
    run = job[0] / "run"
    table = read_per_case(run)
    rows = table[table["method"] == "mean"]
    assert set(rows["seed"]) == {0}
    assert sorted(rows["case"]) == sorted(cases(run, "test"))
    assert set(rows["masks_seen"]) == {len(tumours(run, "train"))}
    assert [p.parent.name for p in sorted((run / "segmenter/mean").rglob("best*"))] == [
        "seed-0",
        "seed-1",
    ]
    assert [p.name for p in (run / "masks/mean").glob("seed-*")] == ["seed-0"]
    held = read_json(run / "masks/mean/threshold.json")
    assert held["seed-0"]["networks"] == [0, 1]
    assert "the 2 networks saw" in held["seed-0"]["chosen_on"]
    assert read_summary(run).set_index("method").loc["mean", "seeds"] == 1


def test_its_probability_is_the_mean_of_what_each_network_says(job, copy, tmp_path):
    folder, config = job
    names = cases(copy, "test")
    images = [folder / f"data/images/{n}.png" for n in names]
    mean = probabilities(copy, images, tmp_path / "mean")
    before = weights(copy)
    assert weakseg("train-segmenter", config, "--run-dir", copy, "--only", "mean", *ALONE) == 0
    assert weights(copy) == before
    assert set(read_per_case(copy).query("method == 'mean'")["seed"]) == {0, 1}
    each = [probabilities(copy, images, tmp_path / s, "--seed", s) for s in ("0", "1")]
    for n in names:
        expected = (each[0][n][0] + each[1][n][0]) / 2
        np.testing.assert_allclose(mean[n][0], expected, atol=2e-3)
        sure = abs(expected - 0.3) > 2e-3
        np.testing.assert_array_equal(mean[n][1][sure], (expected > 0.3)[sure])
        run = pixels(folder / f"run/masks/mean/seed-0/{n}.png") == 255
        np.testing.assert_array_equal(mean[n][1], run)
    # Two networks that agree in everything would prove nothing.
    assert max(abs(each[0][n][0] - each[1][n][0]).max() for n in names) > 0.05


def test_its_masks_teach_another_network(job, tmp_path):
    folder, _ = job
    run = folder / "run"
    held = read_json(run / "segmenter/pupil/seed-1/settings.json")
    assert (held["masks_of"], held["masks_of_seed"]) == ("mean", 0)
    told = {p.stem: pixels(p) == 255 for p in (run / "targets/pupil/seed-1").glob("*.png")}
    images = [folder / f"data/images/{n}.png" for n in tumours(run, "train")]
    made = probabilities(run, images, tmp_path / "out")
    found = {n: mask for n, (_, mask) in made.items() if mask.any()}
    assert set(told) == set(found)
    for n, mask in found.items():
        np.testing.assert_array_equal(told[n], mask)
    row = read_per_case(run).query("method == 'pupil'")
    assert set(row["masks_seen"]) == {len(tumours(run, "train"))}


def test_masks_that_several_networks_learn_from_are_made_once(job, copy, monkeypatch):
    made = []
    makes = train_segmenter.training_targets
    monkeypatch.setattr(
        train_segmenter, "training_targets", lambda *a: made.append(a[3].key) or makes(*a)
    )
    command = ("train-segmenter", job[1], "--run-dir", copy, "--only", "pupil")
    shutil.rmtree(copy / "targets/pupil")
    assert weakseg(*command, "--set", "segmenters.pupil.seeds=[1,2,3]") == 0
    assert len(made) == 1
    told = [contents_of(copy / f"targets/pupil/seed-{s}") for s in (1, 2, 3)]
    assert told[0]
    assert told[0] == told[1] == told[2]
    made.clear()  # each network alone: masks of its own
    seeds = ("--set", "segmenters.pupil.seeds=[0,1]", *ALONE)
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *seeds) == 0
    assert len(set(made)) == len(made) == 2


def contents_of(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_masks_of_another_run_s_mean_are_the_same(job, tmp_path):
    folder, config = job
    change = ("--set", f"segmenters.pupil.masks={folder / 'run'}/mean", "--only", "pupil")
    assert weakseg("train-segmenter", config, "--run-dir", tmp_path / "r", *change) == 0
    ours, theirs = (r / "targets/pupil/seed-1" for r in (tmp_path / "r", folder / "run"))
    assert [p.name for p in sorted(ours.iterdir())] == [p.name for p in sorted(theirs.iterdir())]
    for path in theirs.iterdir():
        assert (ours / path.name).read_bytes() == path.read_bytes()


def test_a_pupil_does_not_take_masks_of_another_mean(job, copy, capsys):
    command = ("train-segmenter", job[1], "--run-dir", copy, "--only", "pupil", *ALONE)
    assert weakseg(*command, "--set", "segmenters.pupil.seeds=[0]") == 2
    said = capsys.readouterr().err
    assert "are those of the mean of its networks" in said
    assert "without --only" in said


def test_a_threshold_chosen_on_validation_masks_counts_each_mask_once(job, copy):
    change = ("--set", "segmenters.mean.threshold=validation", "--only", "mean")
    before = weights(copy)
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *change) == 0
    assert weights(copy) == before
    held = read_json(copy / "masks/mean/threshold.json")["seed-0"]
    seen = len(tumours(copy, "train")) + len(tumours(copy, "val"))
    assert (held["masks_seen"], held["networks"]) == (seen, [0, 1])
    assert held["chosen_on"] == count(len(tumours(copy, "val")), "validation mask")


def weighed_by_validation(job, copy, tmp_path):
    """Weigh the two networks by their Dice; what each says, their Dice, and the threshold."""
    folder, config = job
    names = [*cases(copy, "test")[:4], *tumours(copy, "val")]
    images = [folder / f"data/images/{n}.png" for n in names]
    command = ("train-segmenter", config, "--run-dir", copy, "--only", "mean")
    assert weakseg(*command, *ALONE) == 0
    each = [probabilities(copy, images, tmp_path / s, "--seed", s) for s in ("0", "1")]
    lesions = tumours(copy, "val")
    truths = [pixels(folder / f"data/masks/{n}.png") > 0 for n in lesions]
    # A threshold that cuts through what both say of these lesions.
    at = round(float(np.quantile([e[n][0] for e in each for n in lesions], 0.8)), 4)
    found = [
        np.mean([dice(e[n][0] > at, t) for n, t in zip(lesions, truths, strict=True)]) for e in each
    ]
    assert min(found) > 0
    assert abs(found[0] - found[1]) > 0.02
    how = (f"segmenters.mean.threshold={at}", "segmenters.mean.weighting=validation")
    assert weakseg(*command, *(a for h in how for a in ("--set", h))) == 0
    return images[:4], each, found, at


def test_networks_count_by_their_dice_on_validation_masks_which_are_counted(job, copy, tmp_path):
    before = weights(copy)
    images, each, found, _ = weighed_by_validation(job, copy, tmp_path)
    assert weights(copy) == before
    held = read_json(copy / "masks/mean/threshold.json")["seed-0"]
    shares = held["network_weights"]
    np.testing.assert_allclose(shares, np.array(found) / sum(found), atol=0.02)
    seen = len(tumours(copy, "val"))
    assert held["masks_seen"] == len(tumours(copy, "train")) + seen
    assert held["chosen_on"].endswith(f"weights on {count(seen, 'validation mask')}")
    mean = probabilities(copy, images, tmp_path / "mean")
    for p in images:
        weighed = shares[0] * each[0][p.stem][0] + shares[1] * each[1][p.stem][0]
        np.testing.assert_allclose(mean[p.stem][0], weighed, atol=2e-3)
        stored = pixels(copy / f"masks/mean/seed-0/{p.name}") == 255
        np.testing.assert_array_equal(mean[p.stem][1], stored)


@pytest.mark.slow  # of the export
def test_an_exported_mean_counts_its_networks_as_the_run_does(job, copy, tmp_path):
    images, *_ = weighed_by_validation(job, copy, tmp_path)
    mean = probabilities(copy, images, tmp_path / "mean")
    out = tmp_path / "exported"
    assert weakseg("export", copy, "--method", "mean", "--out", out) == 0
    made = probabilities_by_export(out, images, tmp_path / "by-export")
    for p in images:
        np.testing.assert_allclose(made[p.stem], mean[p.stem][0], atol=2e-3)


def probabilities_by_export(exported, images, out):
    assert weakseg("predict", exported, *images, "--out", out, "--heatmaps") == 0
    return {p.stem: next(iter(np.load(out / f"heatmaps/{p.stem}.npz").values())) for p in images}


def test_weights_of_other_networks_are_refused():
    networks = Networks((object(), object()), ({}, {}))
    assert networks.weighed((0.25, 0.75)).weights == (0.25, 0.75)
    assert networks.weighed(()) == networks
    for wrong in ((1.0,), (0.0, 0.0), (0.2, 0.3, 0.5)):
        with pytest.raises(RunError, match="weights for 2 networks"):
            networks.weighed(wrong)


def test_the_smallest_part_is_chosen_on_validation_images_and_their_masks_are_counted(job, copy):
    change = ("--set", "segmenters.mean.min_area=validation", "--only", "mean")
    before = weights(copy)
    assert weakseg("train-segmenter", job[1], "--run-dir", copy, *change) == 0
    assert weights(copy) == before
    held = read_json(copy / "masks/mean/threshold.json")["seed-0"]
    seen = len(tumours(copy, "train")) + len(tumours(copy, "val"))
    assert held["masks_seen"] == seen
    masks = count(len(tumours(copy, "val")), "validation mask")
    assert f"smallest part on {masks}" in held["chosen_on"]
    least = held["inference"]["min_area"]
    assert 0 <= least < 1
    for p in (copy / "masks/mean/seed-0").glob("*.png"):
        mask = pixels(p) == 255
        labels, parts = ndimage.label(mask)
        assert (np.bincount(labels.ravel())[1:] >= least * mask.size - 1e-6).all() or not parts


def test_of_one_seed_it_is_that_network(job, copy, tmp_path):
    folder, config = job
    made = []
    for word in ("true", "false"):
        change = ("--set", f"segmenters.mean.ensemble={word}", "--set", "segmenters.mean.seeds=[1]")
        command = ("train-segmenter", config, "--run-dir", copy, "--only", "mean", *change)
        assert weakseg(*command) == 0
        made.append({p.name: p.read_bytes() for p in (copy / "masks/mean/seed-1").glob("*.png")})
        image = folder / "data/images/p00_0.png"
        out = ("--method", "mean", "--seed", "1", "--out", tmp_path / word)
        assert weakseg("predict", copy, image, *out) == 0
    assert made[0]
    assert made[0] == made[1]


def test_a_single_seed_of_it_is_refused_and_its_seeds_are_named(job, tmp_path, capsys):
    folder, _ = job
    image = folder / "data/images/p00_0.png"
    command = ("predict", folder / "run", image, "--method", "mean", "--out", tmp_path / "out")
    assert weakseg(*command, "--seed", "1") == 2
    said = capsys.readouterr().err
    assert "mean averages the networks of the seeds 0, 1" in said
    assert "leave --seed out" in said
    assert not (tmp_path / "out").exists()
    assert weakseg(*command) == 0
    assert "mean of the seeds 0, 1" in capsys.readouterr().err


def test_the_report_says_that_it_is_a_mean(job, tmp_path):
    assert weakseg("report", job[0] / "run", "--out", tmp_path / "out") == 0
    page = (tmp_path / "out/index.html").read_text()
    assert "mean is the mean of 2 networks (seeds 0, 1)" in page
    assert "<td>2, averaged</td>" in page
    assert "<td>mean of 0, 1</td>" in page
    rows = {r["name"]: r for r in read_rows(tmp_path / "out/tables/segmenters.csv")}
    stages = read_json(job[0] / "run/run.json")["stages"]
    spent = sum(stages[f"segmenter/mean/{s}"]["seconds"] for s in (0, 1))
    assert float(rows["mean"]["seconds"]) == pytest.approx(spent)


KINDS = "[encoder-unet:squeezenet1_1, encoder-unet:mobilenet_v2]"


def test_networks_of_two_kinds_are_averaged_and_only_the_new_one_is_trained(job, copy, tmp_path):
    folder, config = job
    before = weights(copy)
    images = [folder / f"data/images/{n}.png" for n in cases(copy, "test")[:3]]
    change = ("--set", f"segmenters.mean.arch={KINDS}")
    command = ("train-segmenter", config, "--run-dir", copy, "--only", "mean", *change)
    assert weakseg(*command) == 0
    after = weights(copy)
    trained = {p.parts[-2] for p in after if after[p] != before.get(p) and "mean" in p.parts}
    assert trained == {"seed-1"}
    archs = [read_json(copy / f"segmenter/mean/seed-{s}/settings.json")["settings"] for s in (0, 1)]
    assert [s["arch"].partition(":")[2] for s in archs] == ["squeezenet1_1", "mobilenet_v2"]
    mean = probabilities(copy, images, tmp_path / "mean")
    assert weakseg("train-segmenter", config, "--run-dir", copy, "--only", "mean", *change) == 0
    assert weights(copy) == after
    each = []
    for s, arch in enumerate(("squeezenet1_1", "mobilenet_v2")):
        alone = (*ALONE, "--set", f"segmenters.mean.arch=encoder-unet:{arch}")
        only = ("--set", f"segmenters.mean.seeds=[{s}]", "--only", "mean")
        assert weakseg("train-segmenter", config, "--run-dir", copy, *alone, *only) == 0
        each.append(probabilities(copy, images, tmp_path / arch))
    assert weights(copy) == after
    for p in images:
        expected = (each[0][p.stem][0] + each[1][p.stem][0]) / 2
        np.testing.assert_allclose(mean[p.stem][0], expected, atol=2e-3)
    by_labels = ("segmenters.mean.weighting=labels", "segmenters.mean.false_alarms=0.5")
    assert weakseg(*command, *(a for h in by_labels for a in ("--set", h))) == 0
    assert weights(copy) == after
    held = read_json(copy / "masks/mean/threshold.json")["seed-0"]
    found = {kind: OnLabels(**of).youden for kind, of in held["by_kind"].items()}
    kinds = ["all kinds", *KINDS.strip("[]").split(", ")]
    assert list(found) == kinds
    best = max(kinds, key=lambda kind: found[kind])
    assert held["on_labels"] == held["by_kind"][best]
    chosen = probabilities(copy, images, tmp_path / "chosen")
    said = dict(zip(kinds, [mean, *each], strict=True))[best]
    for p in images:
        np.testing.assert_allclose(chosen[p.stem][0], said[p.stem][0], atol=2e-3)
    assert weakseg("report", copy, "--out", tmp_path / "out") == 0
    page = (tmp_path / "out/index.html").read_text()
    assert "U-Net" in page
    assert "Which kinds of network count in the mean of mean" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([f"arch={KINDS}", "ensemble=false"], "several kinds of network need ensemble: true"),
        (["weighting=validation", "ensemble=false"], "weighting: is of several networks"),
        (["weighting=labels", "false_alarms=0.1"], "needs several kinds in arch"),
        ([f"arch={KINDS}", "weighting=labels"], "in arch, and false_alarms"),
        (["min_area=sometimes"], "min_area"),
        ([f"arch={KINDS}", "weights=[none, none, none]"], "found 3 for 2"),
        (["weights=[none, none]"], "found 2 for 1"),
        ([f"arch={KINDS}", "seeds=[0]"], "2 kinds of network need as many seeds (found 1)"),
        (["arch=[unet, deepmedic]"], "are trained on different kinds of input"),
        ([f"arch={KINDS}", "weights=[none, /no/such.pth]"], "/no/such.pth"),
        (["arch=[unet, unett]"], "did you mean 'unet'"),
        (["scales=[]"], "scales"),
        (["scales=[0.1]"], "scales"),
    ],
)
def test_kinds_that_do_not_go_together_are_refused(job, tmp_path, capsys, changes, words):
    sets = [a for c in changes for a in ("--set", f"segmenters.mean.{c}")]
    assert weakseg("compare", job[1], "--run-dir", tmp_path / "r", *sets) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.rglob("best.safetensors"))


@pytest.mark.thorough
def test_sizes_of_an_image_are_averaged_without_training(job, copy, tmp_path):
    folder, config = job
    before = weights(copy)
    images = [folder / f"data/images/{n}.png" for n in cases(copy, "test")]
    made = []
    for i, scales in enumerate(("[1.0, 1.5]", "[1.0]", "[1.5]")):
        change = ("--set", f"segmenters.mean.scales={scales}", "--only", "mean")
        assert weakseg("train-segmenter", config, "--run-dir", copy, *change) == 0
        made.append(probabilities(copy, images, tmp_path / str(i)))
        held = pixels(copy / f"masks/mean/seed-0/{images[0].name}") == 255
        np.testing.assert_array_equal(made[-1][images[0].stem][1], held)
    assert weights(copy) == before
    both, one, other = made
    for p in images:
        expected = (one[p.stem][0] + other[p.stem][0]) / 2
        np.testing.assert_allclose(both[p.stem][0], expected, atol=2e-3)
    assert max(abs(one[p.stem][0] - other[p.stem][0]).max() for p in images) > 0.02


VOLUMES = """
name: volumes
data: {{manifest: {manifest}}}
scores: {{bootstrap: 100}}
segmenters:
  unet: {{arch: attention-unet-small, epochs: 1, steps: 2, patch: 16, tile: 16, overlap: 0,
         seeds: [0, 1], ensemble: true}}
"""


@pytest.mark.thorough
def test_volumes_are_averaged_as_well(tmp_path):
    config = write_config(tmp_path, write_volumes(tmp_path / "data"), VOLUMES)
    run = tmp_path / "run"
    assert weakseg("train-segmenter", config, "--run-dir", run, "--device", "cpu") == 0
    assert set(read_per_case(run)["seed"]) == {0}
    manifest, found = tmp_path / "data/labels.csv", {}
    for how in ("mean", "0", "1"):
        if how == "0":
            change = ("--set", "segmenters.unet.ensemble=false")
            assert weakseg("train-segmenter", config, "--run-dir", run, *change) == 0
        seed = () if how == "mean" else ("--seed", how)
        out = tmp_path / how
        assert weakseg("predict", run, manifest, "--out", out, "--heatmaps", *seed) == 0
        found[how] = nib.load(out / "heatmaps/v4_m0.nii.gz").get_fdata()
    np.testing.assert_allclose(found["mean"], (found["0"] + found["1"]) / 2, atol=1e-5)
    assert abs(found["0"] - found["1"]).max() > 1e-3


@pytest.mark.parametrize("name", ["unet", "weak"])
def test_an_ensemble_is_another_setting_and_compiling_is_none(name):
    segmenters = {
        "unet": {"seeds": [0, 1]},
        "weak": {"masks": "gradcam-otsu", "min_peak": 0.5},
    }
    config = parse_config({"segmenters": segmenters})

    def changed(**update):
        settings = config.segmenters[name].model_copy(update=update)
        return config.model_copy(update={"segmenters": {name: settings}})

    def fingerprints(of):
        return segmenter_fingerprint(of, name), curve_fingerprint(of, name)

    own, curve = fingerprints(config)
    assert fingerprints(changed(ensemble=True)) == (fingerprints(changed(ensemble=True))[0], curve)
    assert fingerprints(changed(ensemble=True))[0] != own
    assert fingerprints(changed(compile=True)) == (own, curve)


@pytest.mark.parametrize("value", ["2", "sometimes", "[0, 1]"])
def test_it_is_a_matter_of_yes_or_no(job, tmp_path, capsys, value):
    change = ("--set", f"segmenters.mean.ensemble={value}")
    assert weakseg("train-segmenter", job[1], "--run-dir", tmp_path / "r", *change) == 2
    assert "segmenters.mean.ensemble" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
