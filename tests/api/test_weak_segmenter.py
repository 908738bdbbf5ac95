"""`weakseg.WeakSegmenter`: scikit-learn's habits over the stages of the commands."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

import weakseg
from tests.data.helpers import save, save_volume
from weakseg import WeakSegmenter
from weakseg.api.settings_tree import experiment_tree
from weakseg.config import load_config, parse_config
from weakseg.data.cases import Case
from weakseg.data.series import neighbours
from weakseg.errors import ArgumentError, ConfigError, DataError, RunError, UserError
from weakseg.layout import config_file, images_file
from weakseg.predicting.predict import predict
from weakseg.runs import locked

CHECKS = (
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)
"""scikit-learn's own checks, but for those that hand over tables of numbers in place of images."""


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks(name):
    check = getattr(estimator_checks, name)
    check("WeakSegmenter", WeakSegmenter(random_state=0))


def test_parameters_are_kept_set_and_cloned():
    seg = WeakSegmenter("best-weak", fast=True, settings={"classifier.batch_size": 8})
    twin = clone(seg)
    assert twin is not seg
    assert twin.get_params() == seg.get_params()
    assert seg.set_params(epochs=3, recipe=None).get_params()["epochs"] == 3
    assert "recipe" not in repr(seg)
    assert pickle.loads(pickle.dumps(seg)).get_params() == seg.get_params()


def test_the_run_is_that_of_the_commands(fitted, given):
    config = load_config(config_file(fitted.run_dir_))
    assert config == fitted.config_
    assert config.classifier.epochs == 2
    assert config.data.image_size == 64
    method = weakseg.load_method(fitted.run_dir_)
    paths = [r["image"] for r in fitted.run.splits.to_dict("records")[:3]]
    at = [int(p.rsplit("-", 1)[1].split(".")[0]) for p in paths]
    masks = fitted.predict([given["images"][k] for k in at])
    for path, mask in zip(paths, masks, strict=True):
        np.testing.assert_array_equal(method.predict(path).mask, mask)
    assert list(fitted.classes_) == [0, 1]
    # Patients stay on one side.
    assert (fitted.run.splits.groupby("patient")["split"].nunique() == 1).all()


def test_predictions_come_as_images_went(fitted, given, tiny_set):
    folder, rows = tiny_set
    images = given["images"][:3]
    listed = fitted.predict(images)
    assert [m.shape for m in listed] == [i.shape for i in images]
    assert all(m.dtype == bool for m in listed)
    stacked = fitted.predict(np.stack(images))
    assert isinstance(stacked, np.ndarray)
    np.testing.assert_array_equal(stacked, np.stack(listed))
    np.testing.assert_array_equal(fitted.predict(images[0]), listed[0])
    np.testing.assert_array_equal(fitted.predict(str(folder / rows[0]["image"])), listed[0])
    with pytest.warns(UserWarning, match="3 of another depth"):
        fitted.predict([i / 255 for i in images])  # scaled otherwise than 8 bits
    p = fitted.predict_proba(images)
    assert p.shape == (3, 2)
    np.testing.assert_allclose(p.sum(1), 1)
    assert [h.shape for h in fitted.heatmaps(images)] == [i.shape for i in images]


def test_noisier_images_are_smoothed_as_by_the_command(fitted, given, tmp_path):
    rng, images = np.random.default_rng(0), given["images"][1:4:2]
    loud = [(i + i * rng.standard_normal(i.shape)).clip(0, 255).astype(np.uint8) for i in images]
    files = [save(tmp_path / f"new/{k}.png", i) for k, i in enumerate([*loud, *images])]
    out = predict(fitted.run_dir_, files, tmp_path / "out", method=fitted._method(), denoise=True)
    ours = [weakseg.read_mask(out.parent / f"{k}.png") for k in range(4)]
    with pytest.warns(UserWarning, match="2 of more noise") as told:
        masks, p = fitted.predict(files, denoise=True), fitted.predict_proba(files, denoise=True)
    assert "denoise=True" not in str(told[0].message)
    np.testing.assert_array_equal(masks, ours)
    with pytest.warns(UserWarning, match=r"denoise=True smooths those of more noise"):
        plain = fitted.predict_proba([*loud, *images])
    assert (p != plain).any(axis=1).tolist() == [True, True, False, False]
    held = images_file(fitted.run_dir_).read_text()
    try:
        images_file(fitted.run_dir_).unlink()
        with pytest.raises(RunError, match="how noisy") as e:
            fitted.predict(loud, denoise=True)
        assert "leave denoise=True out" in e.value.fix
    finally:
        images_file(fitted.run_dir_).write_text(held)


def test_of_arrays_nobody_knows_that_they_follow_each_other(fitted, given, tiny_set, monkeypatch):
    folder, rows = tiny_set
    seen = []
    monkeypatch.setattr(type(fitted._method()), "predict_each", lambda _, c: seen.extend(c) or [])
    fitted._predictions(given["images"][:3], False)
    assert neighbours(seen) == [()] * 3
    assert len({c.patient for c in seen}) == 3
    seen.clear()
    fitted._predictions([str(folder / r["image"]) for r in rows[:2]], False)
    assert {c.patient for c in seen} == {""}  # files' names tell


def test_the_score_is_the_mean_dice_of_images_with_a_lesion(fitted, given):
    images, masks = given["images"][:6], given["masks"][:6]
    made = fitted.predict(images)
    by_hand = [weakseg.dice(m, t) for m, t in zip(made, masks, strict=True) if t.any()]
    assert 0 < len(by_hand) < 6
    assert fitted.score(images, masks) == pytest.approx(np.mean(by_hand))
    assert np.isnan(fitted.score(images[:1], [None]))


def test_it_is_kept_without_code_and_segments_alike(fitted, given, tmp_path):
    there = fitted.save(tmp_path / "kept")
    assert not [f for f in there.rglob("*") if f.suffix in (".pt", ".pkl", ".joblib")]
    again = WeakSegmenter.load(str(there))
    assert again.get_params()["fast"] is True
    assert list(again.classes_) == [0, 1]
    np.testing.assert_array_equal(
        again.predict(given["images"][1]), fitted.predict(given["images"][1])
    )
    with pytest.raises(RunError, match="something already"):
        fitted.save(there)
    with pytest.raises(RunError, match="inside of its own run folder"):
        fitted.save(fitted.run_dir_ / "kept")
    with pytest.raises(RunError, match="not pickled"):
        pickle.dumps(fitted)
    path = there / "segmenter.json"
    good = json.loads(path.read_text())
    changes = [
        {"format": 99}, {"format": None}, {"params": None}, {"params": [1]}, {"classes": None},
        {"classes": []}, {"classes": 3}, {"classes": [[0], [1]]}, {"classes": [0, 1, 2]},
        {"params": {**good["params"], "devise": "cpu"}}, {"params": {"method": 3}},
        {"params": {"device": 3}}, {"params": {"verbose": "no"}},
    ]  # fmt: skip
    for change in changes:
        held = {k: v for k, v in (good | change).items() if v is not None}
        path.write_text(json.dumps(held))
        with pytest.raises(RunError, match=r"damaged|not as weakseg writes it") as told:
            WeakSegmenter.load(there)
        assert next(iter(change)) in told.value.found
    with pytest.raises(RunError, match="no saved segmenter"):
        WeakSegmenter.load(tmp_path)


@pytest.mark.thorough
def test_the_report_is_written(fitted, tmp_path):
    page = fitted.report(tmp_path / "report")
    assert "Grad-CAM" in page.read_text()


def test_a_temporary_run_goes_with_its_object(given):
    seg = WeakSegmenter(verbose=False)
    with pytest.raises(NotFittedError, match="not fitted yet"):
        seg.predict(given["images"])
    with pytest.raises(DataError):
        seg.fit(given["images"][:3], [0, 0, 0])
    assert not hasattr(seg, "run_dir_")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": [0, 1]}, "different lengths"),
        ({"labels": "01"}, "labels is no list"),
        ({"labels": [None] * 36}, r"labels\[0\] is neither text"),
        ({"labels": None}, "labels are missing"),
        ({"labels": None, "masks": np.zeros((36, 4, 4))}, "labels are missing"),
        ({"images": 3}, "images is one image"),
        ({"patients": [1]}, "different lengths"),
        ({"masks": [np.zeros(3)] * 36}, r"masks\[0\] is no mask"),
        ({"masks": [np.full((4, 4), np.nan)] * 36}, "with NaN or infinity"),
        ({"splits": ["trainign"] * 36}, "is no split"),
        ({"images": [np.full((36, 40), np.nan)] * 36}, r"(?s)no numbers.*images\[0\]"),
    ],
)
def test_odd_sets_are_refused_in_a_sentence(given, change, said):
    with pytest.raises(UserError, match=said):
        WeakSegmenter(verbose=False).fit(**{**given, **change})


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"recipe": "best-week"}, "did you mean 'best-weak'"),
        ({"random_state": "zero"}, "random_state is no seed"),
        ({"seeds": "two"}, "seeds is neither"),
        ({"config": 3}, "config is no experiment"),
        ({"config": "quickstrat"}, "quickstart"),
        ({"settings": [1]}, "settings is no dict"),
        ({"settings": {"classifier.epoch": 3}}, "epochs"),
        ({"rules": "otzu"}, "otsu"),
    ],
)
def test_odd_parameters_are_refused_when_fitting(given, parameters, said):
    seg = WeakSegmenter(verbose=False, **parameters)  # not before: as scikit-learn has it
    with pytest.raises((ConfigError, ArgumentError), match=said):
        seg.fit(given["images"], given["labels"])


def held(folder):
    """Content of every file below a folder."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


@pytest.mark.thorough
def test_inputs_of_an_earlier_fit_stay_until_new_ones_are_found_good(given, tmp_path, monkeypatch):
    monkeypatch.setattr("weakseg.api.weak_segmenter.compare", lambda prepared: None)
    run, kept = tmp_path / "mine", tmp_path / "mine-given"
    beside = {"patients": given["patients"], "masks": given["masks"]}
    seg = WeakSegmenter(run_dir=run, verbose=False, fast=True)
    seg.fit(given["images"], given["labels"], **beside)
    first, record = held(kept), (run / "config.yaml").read_bytes()
    assert len(first) == 1 + 36 + 36
    assert seg.run_dir_ == run
    assert seg.config_.data.manifest == str(kept / "labels.csv")
    bad = [
        ({"images": given["images"][:3], "labels": [0, 0, 0]}, {}, DataError),
        ({"labels": given["labels"][:3]}, {}, ArgumentError),
        ({}, {"settings": {"classifier.epoch": 3}}, ConfigError),
        ({}, {"device": "cuda:99"}, ConfigError),
    ]
    for inputs, parameters, error in bad:
        other = WeakSegmenter(run_dir=run, verbose=False, **parameters)
        with pytest.raises(error):
            other.fit(**{"images": given["images"], "labels": given["labels"], **inputs})
    with locked(run), pytest.raises(RunError, match="in use"):
        seg.fit(given["images"], given["labels"])
    assert held(kept) == first
    assert (run / "config.yaml").read_bytes() == record
    # Files of the folder itself may be handed over again; what is handed over no more goes.
    images = sorted(kept.glob("images/*"))
    seg.fit(images[:33], given["labels"][:33], patients=given["patients"][:33])
    assert {k: first[k] for k in first if k.startswith("images")}.items() >= {
        (k, v) for k, v in held(kept).items() if k.startswith("images")
    }
    assert len(held(kept)) == 1 + 33
    (kept / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something else"):
        seg.fit(given["images"], given["labels"])
    assert (kept / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "mine-given"]


def experiment(seed=7, **parameters):
    params = WeakSegmenter(**parameters).get_params(deep=False)
    return parse_config(experiment_tree(params, Path("labels.csv"), seed))


def test_an_arguments_default_does_not_override_the_experiment():
    own = {"name": "mine", "seed": 5, "device": "cpu"}
    kept = experiment(seed=None, config=own, seeds=2)
    assert (kept.seed, kept.device, kept.seeds) == (5, "cpu", [5, 6])
    asked = experiment(seed=0, config=own, device="auto")
    assert (asked.seed, asked.device) == (0, "auto")
    plain = experiment(seed=None)
    assert (plain.seed, plain.device) == (0, "auto")
    assert experiment(seed=None, settings={"seed": 9}, seeds=2).seeds == [9, 10]


def test_parameters_become_the_experiment():
    plain = experiment()
    assert (plain.seed, plain.recipe, plain.seeds) == (7, "none", [7])
    config = experiment(
        recipe="best-weak", fast=True, arch="resnet50", epochs=np.int64(2), seeds=2, rules="otsu"
    )
    assert config.seeds == [7, 8]
    assert config.classifier.arch == "resnet50"
    assert config.classifier.epochs == 2
    assert config.segmenters["best-weak"].steps == 16  # fast
    assert config.segmenters["best-weak"].arch == "encoder-unet:resnet50"
    assert config.report.method == "best-weak"
    assert [r.rule for r in config.masks.rules] == ["otsu"]
    own = experiment(
        recipe="best-weak", fast=True, settings={"segmenters": {"best-weak": {"steps": 9}}}
    )
    assert own.segmenters["best-weak"].steps == 9
    packaged = experiment(config="quickstart", healthy_labels=[0], lesion_labels=["tumour", 2])
    assert packaged.heatmap.layer == "layer2"
    assert packaged.data.manifest == "labels.csv"
    assert packaged.data.healthy_labels == ["0"]
    assert packaged.data.lesion_labels == ["tumour", "2"]
    assert experiment(config=packaged).segmenters == packaged.segmenters


def test_a_segmenters_run_is_opened(fitted):
    run = weakseg.open_run(fitted)
    assert run.folder == fitted.run_dir_
    assert set(run.cases[run.per_case["case"].iloc[0]].masks) >= {"gradcam-otsu"}


@pytest.mark.slow
def test_the_recipe_needs_no_mask(given):
    seg = WeakSegmenter("best-weak", arch="squeezenet1_1", fast=True, verbose=False)
    seg.fit(given["images"], given["labels"], patients=given["patients"])
    assert seg.run.methods.loc["best-weak", "masks_seen"] == 0
    assert len(seg.scores) == 0
    assert len(seg.predict(given["images"][:2])) == 2


def test_the_classifier_of_its_run_knows_how_images_were_prepared(fitted, given):
    model = fitted.run.classifier()
    result = weakseg.explain(model, given["images"][0])
    assert result.preprocessing.shape == (64, 64)
    assert result.preprocessing.intensity == fitted.config_.data.intensity
    model.intensity = "percentile"
    assert weakseg.explain(model, given["images"][0]).preprocessing.intensity == "percentile"


def test_files_of_floats_are_scaled_as_the_run_scales_them(fitted, given, tmp_path):
    faint = tmp_path / "faint.tif"
    tifffile.imwrite(faint, given["images"][0].astype(np.float32) / 255 * 0.4 + 0.05)
    model = fitted.run.classifier()
    expected = fitted.run.load("gradcam-fixed").predict(faint)
    result = weakseg.explain(model, faint, target="1")
    assert result.probability == pytest.approx(expected.probability, abs=1e-4)
    as_it_is = weakseg.explain(model, weakseg.read_image(faint), target="1")
    assert as_it_is.probability != pytest.approx(expected.probability, abs=1e-3)


def test_images_may_come_one_by_one(fitted, given, tiny_set):
    folder, rows = tiny_set
    paths = [folder / r["image"] for r in rows[:3]]
    expected = fitted.predict(paths)
    for one_by_one in (iter(paths), map(str, paths), (p for p in paths)):
        np.testing.assert_array_equal(fitted.predict(one_by_one), expected)
    masks = given["masks"][:3]
    assert fitted.score(iter(paths), iter(masks)) == fitted.score(paths, masks)


def test_the_score_reads_masks_by_the_experiments_rule(fitted, given, monkeypatch):
    images, made = given["images"][:6], given["masks"][:6]
    monkeypatch.setattr(fitted, "predict", lambda images, denoise=False: made[: len(images)])
    # A faint halo around what is predicted: no lesion by half, as the experiment has it.
    soft = [np.where(m, 255, 42).astype(np.uint8) for m in made]
    data = fitted.config_.data.model_copy(update={"mask_rule": "half"})
    monkeypatch.setattr(fitted, "config_", fitted.config_.model_copy(update={"data": data}))
    assert fitted.score(images, soft) == 1
    assert np.isnan(fitted.score(images[:2], [float("nan"), ""]))


def test_a_volume_is_no_image_whatever_its_depth(fitted, tmp_path):
    method = weakseg.load_method(fitted.run_dir_)
    for depth in (1, 3, 4):
        path = save_volume(tmp_path / f"{depth}.nii.gz", np.ones((40, 32, depth), np.int16))
        for call in (method.predict, lambda p: list(method.predict_each([Case("a", Path(p), "")]))):
            with pytest.raises(DataError, match="makes masks of images, and this is a volume"):
                call(str(path))
        with pytest.raises(DataError, match="this is a volume"):
            fitted.predict([str(path)])
