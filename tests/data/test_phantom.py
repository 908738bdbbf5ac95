"""The phantom: reproducible, honest about being simulated, and not solved by brightness."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from weakseg.config import PhantomConfig
from weakseg.data import phantom
from weakseg.data.phantom import PhantomSlice, phantom_slices, write_phantom
from weakseg.errors import DataError
from weakseg.masks.floors import brightest, centred_ellipse
from weakseg.masks.region import body_region

SMALL = PhantomConfig(patients=6, slices_per_patient=4, size=64, seed=3)


@pytest.fixture(scope="module")
def slices() -> list[PhantomSlice]:
    default = PhantomConfig()
    return list(
        phantom_slices(default.patients, default.slices_per_patient, default.size, default.seed)
    )


@pytest.fixture(scope="module")
def tumors(slices: list[PhantomSlice]) -> list[PhantomSlice]:
    return [s for s in slices if s.label == "tumor"]


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def _by_patient(slices: list[PhantomSlice]) -> dict[str, list[PhantomSlice]]:
    groups: dict[str, list[PhantomSlice]] = {}
    for s in slices:
        groups.setdefault(s.patient, []).append(s)
    return groups


def _same(a: PhantomSlice, b: PhantomSlice) -> bool:
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.mask, b.mask)
        and (a.label, a.patient, a.number) == (b.label, b.patient, b.number)
    )


def test_shapes_types_and_names(slices: list[PhantomSlice]) -> None:
    assert len(slices) == 28 * 16
    assert [s.patient for s in slices[:17]] == ["P001"] * 16 + ["P002"]
    assert [s.number for s in slices[:17]] == [*range(1, 17), 1]
    for s in slices:
        assert s.image.shape == s.mask.shape == (128, 102)
        assert s.image.dtype == np.uint8
        assert s.mask.dtype == bool
        assert (s.label == "tumor") == s.mask.any()


def test_two_calls_agree_bit_for_bit() -> None:
    a, b = (list(phantom_slices(3, 6, 64, 11)) for _ in range(2))
    assert all(map(_same, a, b))


def test_more_patients_leave_the_first_ones_as_they_were() -> None:
    few, many = list(phantom_slices(2, 6, 64, 11)), list(phantom_slices(5, 6, 64, 11))
    assert len(many) == 30
    assert all(map(_same, few, many[:12]))


def test_seeds_patients_and_slices_differ() -> None:
    a, b = (list(phantom_slices(2, 6, 64, seed)) for seed in (0, 1))
    images = [s.image.tobytes() for s in a + b]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 16, 128, 0), "patients must be at least 1, got 0"),
        ((4, 3, 128, 0), "slices_per_patient must be at least 4, got 3"),
        ((4, 16, 31, 0), "size must be at least 32, got 31"),
        ((4, 16, 128, -1), "seed must be at least 0, got -1"),
    ],
)
def test_a_parameter_out_of_range_is_named_at_the_call(
    arguments: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        phantom_slices(*arguments)


@pytest.mark.parametrize(("per_patient", "size"), [(4, 64), (64, 64), (5, 200)])
def test_extreme_parameters_still_hold_lesions_and_free_slices(per_patient: int, size: int) -> None:
    drawn = list(phantom_slices(8, per_patient, size, 5))
    for patient, group in _by_patient(drawn).items():
        assert len(group) == per_patient
        lesions = sum(s.label == "tumor" for s in group)
        assert lesions == 0 if patient == "P006" else 1 <= lesions < per_patient


def test_lesions_span_consecutive_slices_and_leave_some_free(slices: list[PhantomSlice]) -> None:
    without = 0
    for group in _by_patient(slices).values():
        numbers = [s.number for s in group if s.label == "tumor"]
        assert len(numbers) < len(group) - 2
        assert all(b - a == 1 for a, b in pairwise(numbers))
        without += not numbers
    assert without == 3


def test_a_lesion_overlaps_itself_in_the_next_slice(slices: list[PhantomSlice]) -> None:
    shared = [
        (a.mask & b.mask).sum() / min(a.mask.sum(), b.mask.sum())
        for a, b in pairwise(slices)
        if a.patient == b.patient and a.mask.any() and b.mask.any()
    ]
    assert np.median(shared) > 0.7


def test_about_two_fifths_of_the_slices_hold_a_tumor(
    slices: list[PhantomSlice], tumors: list[PhantomSlice]
) -> None:
    assert 0.33 < len(tumors) / len(slices) < 0.47


def test_a_lesion_is_one_piece_inside_the_head_and_of_a_stated_size(
    tumors: list[PhantomSlice],
) -> None:
    shares = []
    for s in tumors:
        head = body_region(s.image)
        assert 0.1 < head.mean() < 0.9
        assert (s.mask & head).sum() == s.mask.sum()
        assert ndimage.label(s.mask)[1] == 1
        shares.append(s.mask.sum() / head.sum())
    assert min(shares) > 0.005
    assert max(shares) < 0.13
    assert max(shares) > 5 * min(shares)


def test_most_lesions_are_brighter_than_the_tissue_around_them_and_some_barely(
    tumors: list[PhantomSlice],
) -> None:
    ratios = []
    for s in tumors:
        ring = ndimage.binary_dilation(s.mask, iterations=6) & ~ndimage.binary_dilation(
            s.mask, iterations=2
        )
        ratios.append(np.median(s.image[s.mask]) / np.median(s.image[ring]))
    assert np.mean(np.array(ratios) > 1.1) > 0.9
    assert np.percentile(ratios, 10) < 1.4
    assert np.percentile(ratios, 90) > 1.7


def test_healthy_structures_are_brighter_than_the_lesion(tumors: list[PhantomSlice]) -> None:
    # Had every lesion been the hottest place, the brightest pixels would be its own.
    shares = []
    for s in tumors:
        top = brightest(s.image, s.mask.mean())
        shares.append((top & ~s.mask).sum() / top.sum())
    assert np.mean(np.array(shares) > 0.5) > 0.8


def test_no_brightest_share_finds_the_lesions(tumors: list[PhantomSlice]) -> None:
    for share in (0.01, 0.02, 0.03, 0.05, 0.07, 0.08, 0.10, 0.12, 0.15, 0.2, 0.3, 0.5):
        mean = np.mean([_dice(brightest(s.image, share), s.mask) for s in tumors])
        assert mean < 0.35, f"brightest {share}"


def test_no_centred_ellipse_finds_the_lesions(tumors: list[PhantomSlice]) -> None:
    for share in (0.02, 0.05, 0.1, np.pi / 16, 0.3, 0.5):
        ellipse = centred_ellipse(tumors[0].mask.shape, share)
        assert np.mean([_dice(ellipse, s.mask) for s in tumors]) < 0.3, f"ellipse {share}"


def test_global_statistics_do_not_give_the_label_away(slices: list[PhantomSlice]) -> None:
    images = [s.image for s in slices]
    features = np.array(
        [
            [i.mean(), i.std(), i.max(), *np.percentile(i, [50, 75, 90, 95, 99]), (i > 20).mean()]
            for i in images
        ]
    )
    labels = np.array([s.label == "tumor" for s in slices])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    scores = cross_val_predict(
        model,
        features,
        labels,
        groups=[s.patient for s in slices],
        cv=GroupKFold(7),
        method="predict_proba",
    )[:, 1]
    assert roc_auc_score(labels, scores) < 0.8
    for column in features.T:
        auc = roc_auc_score(labels, column)
        assert max(auc, 1 - auc) < 0.75


def test_the_folder_holds_what_was_drawn(tmp_path: Path) -> None:
    table = write_phantom(tmp_path / "deep" / "phantom", SMALL)
    folder = table.parent
    assert folder == tmp_path / "deep" / "phantom"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    drawn = list(phantom_slices(6, 4, 64, 3))
    assert len(rows) == len(drawn) == 24
    assert list(rows[0]) == ["image", "mask", "label", "patient"]
    for row, s in zip(rows, drawn, strict=True):
        assert (row["label"], row["patient"]) == (s.label, s.patient)
        image = np.asarray(Image.open(folder / row["image"]))
        mask = np.asarray(Image.open(folder / row["mask"]))
        np.testing.assert_array_equal(image, s.image)
        np.testing.assert_array_equal(mask, np.where(s.mask, 255, 0))
        assert mask.dtype == np.uint8
    assert "SIMULATED" in (folder / "README.txt").read_text()
    assert json.loads((folder / "phantom.json").read_text()) == {
        "generator": phantom.GENERATOR,
        **SMALL.model_dump(),
    }
    assert [p.name for p in folder.parent.iterdir()] == ["phantom"]


def test_the_same_phantom_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = write_phantom(tmp_path / "phantom", SMALL)
    monkeypatch.setattr(phantom, "phantom_slices", lambda *_: pytest.fail("drawn again"))
    assert write_phantom(tmp_path / "phantom", SMALL) == table


def test_a_damaged_phantom_is_mended(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    lost = folder / "masks" / "P002_03.png"
    before = lost.read_bytes()
    lost.unlink()
    write_phantom(folder, SMALL)
    assert lost.read_bytes() == before


def test_another_phantom_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    other = SMALL.model_copy(update={"size": 80})
    write_phantom(folder, other)
    assert Image.open(folder / "images" / "P001_01.png").size == (64, 80)
    assert len(list((folder / "images").iterdir())) == 24


def test_a_new_generator_version_draws_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_phantom(tmp_path / "phantom", SMALL).parent
    monkeypatch.setattr(phantom, "GENERATOR", phantom.GENERATOR + 1)
    write_phantom(folder, SMALL)
    written = json.loads((folder / "phantom.json").read_text())["generator"]
    assert written == phantom.GENERATOR


def test_somebody_elses_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="something else is there"):
        write_phantom(tmp_path / "mine", SMALL)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="a file"):
        write_phantom(tmp_path / "file", SMALL)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "mine"]


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert write_phantom(tmp_path / "empty", SMALL).is_file()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[PhantomSlice]:
        raise OSError("disk full")

    monkeypatch.setattr(phantom, "phantom_slices", broken)
    with pytest.raises(OSError, match="disk full"):
        write_phantom(tmp_path / "phantom", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_phantom_that_appears_meanwhile_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "phantom"
    rename = Path.rename

    def late(source: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        write_phantom(folder, SMALL)
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", late)
    table = write_phantom(folder, SMALL)
    assert table.is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["phantom"]
