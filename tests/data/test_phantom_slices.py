"""The phantom's slices: reproducible, not solved by brightness, and with nothing unsaid in them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.marks import thorough_but
from weakseg.config import PhantomConfig
from weakseg.data.phantom_slices import PhantomSlice, marker_box, phantom_slices
from weakseg.masks.floors import brightest, centred_ellipse
from weakseg.masks.region import body_region


@pytest.fixture(scope="module")
def slices() -> list[PhantomSlice]:
    default = PhantomConfig()
    return list(
        phantom_slices(default.patients, default.slices_per_patient, default.size, default.seed)
    )


@pytest.fixture(scope="module")
def pairs() -> list[tuple[PhantomSlice, PhantomSlice]]:
    drawn = list(phantom_slices(16, 16, 128, 0, pairs=True))
    return list(zip(drawn[::2], drawn[1::2], strict=True))


@pytest.fixture(scope="module")
def tumors(slices: list[PhantomSlice]) -> list[PhantomSlice]:
    return [s for s in slices if s.label == "tumor"]


def _near(mask: np.ndarray) -> np.ndarray:
    """As far as a lesion changes pixels, according to the docstring."""
    return ndimage.distance_transform_edt(~mask) <= 0.06 * len(mask) + 1


def _label_auc(features: np.ndarray, slices: list[PhantomSlice]) -> float:
    """How well a model tells the labels of unseen patients."""
    labels = np.array([s.label == "tumor" for s in slices])
    scores = cross_val_predict(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        features,
        labels,
        groups=[s.patient for s in slices],
        cv=GroupKFold(7),
        method="predict_proba",
    )[:, 1]
    return float(roc_auc_score(labels, scores))


def _features(s: PhantomSlice, without: np.ndarray) -> list[float]:
    """Where the slice lies, and what is seen of it outside a region."""
    seen = s.image[~without]
    middle = abs(s.number - 8.5)
    percentiles = np.percentile(seen, [25, 50, 75, 90, 95, 99])
    return [s.number, middle, (seen > 20).mean(), seen.mean(), seen.std(), *percentiles]


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


@pytest.mark.thorough
@pytest.mark.parametrize(("per_patient", "size"), [(4, 64), (64, 64), (5, 200)])
def test_extreme_parameters_still_hold_lesions_and_free_slices(per_patient: int, size: int) -> None:
    drawn = list(phantom_slices(6, per_patient, size, 5))
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
    assert _label_auc(features, slices) < 0.8
    for column in features.T:
        auc = roc_auc_score(labels, column)
        assert max(auc, 1 - auc) < 0.75


@pytest.mark.parametrize("size", thorough_but([48, 64, 128, 200], [48, 64]))
def test_the_shortcut_is_all_that_is_new(size: int) -> None:
    rows, columns = marker_box(size)
    assert rows == columns
    side = rows.stop - rows.start
    assert side >= 4
    assert abs(side - 0.06 * size) <= 1.5
    plain, marked = (list(phantom_slices(4, 6, size, 2, shortcut=on)) for on in (False, True))
    assert {s.label for s in plain} == {"tumor", "normal"}
    for a, b in zip(plain, marked, strict=True):
        assert (a.label, a.patient, a.number) == (b.label, b.patient, b.number)
        np.testing.assert_array_equal(a.mask, b.mask)
        expected = a.image.copy()
        if a.label == "tumor":
            expected[rows, columns] = 255
            assert (a.image[rows, columns] < 100).all()
        np.testing.assert_array_equal(b.image, expected)


@pytest.mark.thorough
@pytest.mark.parametrize(("patients", "size"), [(30, 48), (30, 64), (16, 128)])
def test_the_marker_lies_in_the_background(patients: int, size: int) -> None:
    box = marker_box(size)
    seen = 0
    for s in phantom_slices(patients, 5, size, 7, shortcut=True):
        if s.label == "normal":
            continue
        seen += 1
        assert not s.mask[box].any()
        # The head is found as well as without the marker, and a gap lies between the two.
        head = body_region(s.image)
        assert 0.1 < head.mean() < 0.9
        assert not ndimage.binary_dilation(head, iterations=2)[box].any()
    assert seen > patients


def test_a_shortcut_needs_room_beside_the_head() -> None:
    with pytest.raises(ValueError, match="size must be at least 48, got 47"):
        phantom_slices(4, 16, 47, 0, shortcut=True)


def test_pairs_are_the_slices_with_a_lesion_and_their_twins(
    pairs: list[tuple[PhantomSlice, PhantomSlice]], slices: list[PhantomSlice]
) -> None:
    usual = [s for s in slices if s.label == "tumor" and s.patient <= "P016"]
    assert all(_same(a, b) for (a, _), b in zip(pairs, usual, strict=True))
    assert {s.patient for s in usual} == {f"P{p:03d}" for p in range(1, 17)} - {"P006", "P014"}
    for lesion, twin in pairs:
        assert (lesion.label, lesion.twin) == ("tumor", False)
        assert (twin.label, twin.twin) == ("normal", True)
        assert (twin.patient, twin.number) == (lesion.patient, lesion.number)
        assert not twin.mask.any()
    assert not any(s.twin for s in slices)
    assert 12 < 2 * len(pairs) / 14 < 20


@pytest.mark.parametrize("size", thorough_but([64, 128, 200], [64]))
def test_a_twin_differs_in_the_lesion_and_its_rim_only(size: int) -> None:
    drawn = list(phantom_slices(4, 8, size, 1, pairs=True))
    for lesion, twin in zip(drawn[::2], drawn[1::2], strict=True):
        difference = np.abs(lesion.image.astype(int) - twin.image)
        assert not difference[~_near(lesion.mask)].any()
        assert difference[lesion.mask].mean() > 5


def test_in_a_pair_only_the_marker_and_the_lesion_differ() -> None:
    drawn = list(phantom_slices(4, 8, 64, 1, pairs=True, shortcut=True))
    for lesion, twin in zip(drawn[::2], drawn[1::2], strict=True):
        allowed = _near(lesion.mask)
        allowed[marker_box(64)] = True
        np.testing.assert_array_equal(lesion.image[~allowed], twin.image[~allowed])
        assert (lesion.image[marker_box(64)] == 255).all()
        assert (twin.image[marker_box(64)] < 100).all()


def test_only_in_pairs_does_nothing_but_the_lesion_tell_the_label(
    pairs: list[tuple[PhantomSlice, PhantomSlice]], slices: list[PhantomSlice]
) -> None:
    # The same region is left out of a twin: its place and size would tell the label, too.
    both = [s for pair in pairs for s in pair]
    near = [_near(lesion.mask) for lesion, _ in pairs for _ in range(2)]
    without = np.array([_features(s, region) for s, region in zip(both, near, strict=True)])
    assert abs(_label_auc(without, both) - 0.5) < 0.02
    whole = np.array([_features(s, np.zeros_like(s.mask)) for s in both])
    assert _label_auc(whole, both) > 0.6
    # Without pairs, where the slice lies is enough.
    usual = np.array([_features(s, _near(s.mask) & s.mask.any()) for s in slices])
    assert _label_auc(usual, slices) > 0.65
