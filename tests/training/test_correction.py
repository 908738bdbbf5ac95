"""Labels that a network corrects: the curve and its moment by hand, the rule, exact resume."""

import math

import numpy as np
import pytest
import torch

from tests.training.test_segment import (
    SIDE,
    STILL,
    configured,
    loaded,
    planted,
    small_unet,
)
from weakseg.config import PatchAugmentConfig, SegmenterConfig, parse_config
from weakseg.config.correct import CorrectConfig
from weakseg.data.mapped import MappedStore
from weakseg.data.patches import IGNORE
from weakseg.data.targets import PackedTargets
from weakseg.errors import ConfigError, RunError
from weakseg.layout import METRICS, RESUME
from weakseg.training import checkpoints
from weakseg.training.correction import Correction, Curve, corrected, fitted, it_is_time
from weakseg.training.loop import FitSettings, fit, make_fabric
from weakseg.training.segment import SegmenterTask
from weakseg.training.together import Share

BOXES = [(6, 9, 12, 8), (20, 22, 10, 14), (4, 20, 14, 10), (22, 5, 12, 12)] * 2
AT_ONCE = CorrectConfig(slope=0.01, lesion=0.5, scales=[0.8, 1.0])


# --- the curve


@pytest.mark.parametrize(("a", "b", "c"), [(0.8, 0.9, 0.7), (0.5, 1.0, 1.0), (0.95, 0.2, 0.9)])
def test_a_curve_is_found_through_its_own_points(a, b, c):
    ious = [a * (1 - math.exp(-b * t**c)) for t in range(1, 9)]
    curve = fitted(ious)
    assert (curve.a, curve.b, curve.c) == pytest.approx((a, b, c), rel=2e-3)
    assert [curve(t) for t in range(1, 9)] == pytest.approx(ious, abs=1e-5)


def test_the_slope_is_that_of_the_curve():
    curve = Curve(0.8, 0.9, 0.7)
    for t in (1, 2.5, 6):
        by_hand = (curve(t + 1e-5) - curve(t - 1e-5)) / 2e-5
        assert curve.slope(t) == pytest.approx(by_hand, rel=1e-6)


def test_the_moment_is_that_of_a_curve_by_hand():
    """Of 0.5 (1 - exp(-t)) the slope is 0.5 exp(-t): after 3 epochs it has fallen by 1 - exp(-2),
    0.865, after 4 by 0.950.
    """
    ious = [0.5 * (1 - math.exp(-t)) for t in range(1, 6)]
    assert fitted(ious[:3]).fall(3) == pytest.approx(1 - math.exp(-2), abs=1e-3)
    assert fitted(ious[:4]).fall(4) == pytest.approx(1 - math.exp(-3), abs=1e-3)
    assert [it_is_time(ious[:n], 0.9) for n in range(6)] == [False] * 4 + [True] * 2
    assert [it_is_time(ious[:n], 0.8) for n in range(5)] == [False] * 3 + [True] * 2


@pytest.mark.parametrize("ious", [[], [0.4], [0.4, 0.5], [0.0] * 6, [0.03] * 6])
def test_without_a_curve_it_is_never_time(ious):
    assert not it_is_time(ious, 0.01)


# --- the rule


def test_labels_change_where_the_network_is_sure_alone():
    target = np.array([[0, 0, 0, 1, 1, 1, IGNORE, IGNORE, IGNORE]], dtype=np.uint8)
    p = np.array([[0.81, 0.8, 0.01, 0.04, 0.06, 0.9, 0.9, 0.5, 0.01]])
    made = corrected(target, p, CorrectConfig(), 9)
    assert made.tolist() == [[1, 0, 0, 0, 1, 1, 1, IGNORE, 0]]
    assert made.dtype == np.uint8


def test_a_lesion_that_the_label_says_is_there_is_not_taken_away():
    target = np.array([[0, 1, IGNORE]], dtype=np.uint8)
    assert corrected(target, np.zeros((1, 3)), CorrectConfig(), 3).tolist() == target.tolist()


def test_a_target_of_which_the_network_would_see_nothing_stays_as_it_was():
    target = np.zeros((512, 512), dtype=np.uint8)
    target[200:240, 200:240] = 1
    p = np.zeros(target.shape)
    p[255:257, 255:257] = 1  # astride four pixels of a network that sees a quarter
    np.testing.assert_array_equal(corrected(target, p, CorrectConfig(), 128), target)
    made = corrected(target, p, CorrectConfig(), 512)
    np.testing.assert_array_equal(made, p > 0)


# --- a training


def halved(boxes):
    """Targets of boxes of which every other is but half, of a side in turn; and the truth."""
    targets, truths = PackedTargets(), []
    for i, (top, left, height, width) in enumerate(boxes):
        truth = np.zeros((SIDE, SIDE), dtype=np.uint8)
        truth[top : top + height, left : left + width] = 1
        told = truth.copy()
        if i % 2:
            told[:, left : left + width // 2] = 0
        truths.append(truth)
        targets[i] = told
    return targets, truths


def taught(folder, correct=AT_ONCE, store=False):
    folder.mkdir(exist_ok=True)
    config = configured(
        correct=correct, steps=8, masks="m", patch="whole", average="none", lr=0.03, loss="ce",
        augment=PatchAugmentConfig(**STILL),
    )  # fmt: skip
    data = loaded(planted(folder, BOXES), store=MappedStore(folder) if store else None)
    data.targets, truths = halved(BOXES)
    task = SegmenterTask(config, small_unet(), data, range(len(BOXES)), [], 0, "cpu")
    return task, truths


def train(task, folder, epochs=5, **more):
    settings = FitSettings(epochs, "adamw", 0.03, 0.01, 0.1, 0, None)
    history = fit(
        task.model, task, settings, folder, make_fabric("cpu", "auto"),
        key="k", metadata={"a": "b"}, what="test", memory=task.correction, **more,
    )  # fmt: skip
    return task.model, history


def iou(one, other):
    return float(((one == 1) & (other == 1)).sum() / ((one == 1) | (other == 1)).sum())


def test_masks_that_lack_half_of_a_lesion_come_nearer_to_the_truth(tmp_path, capsys):
    task, truths = taught(tmp_path / "data")
    before = [iou(task.data.targets[i], t) for i, t in enumerate(truths)]
    _, history = train(task, tmp_path / "run", epochs=4)
    after = [iou(task.data.targets[i], t) for i, t in enumerate(truths)]
    assert np.mean(before) == pytest.approx(0.75)
    assert all(a > b for a, b in zip(after[1::2], before[1::2], strict=True))
    assert np.mean(after) > 0.85
    assert task.correction.after == 3
    assert [h["own_iou"] for h in history] == task.correction.ious
    changed = [h["corrected"] for h in history]
    assert changed[2] > 0
    assert changed[0] == changed[1] == changed[3] == 0
    assert "labels corrected after epoch 3" in capsys.readouterr().err
    head = (tmp_path / "run" / METRICS).read_text().splitlines()[0]
    assert head.endswith("own_iou,corrected")
    # What it learns from then on are the new labels.
    for i in range(len(BOXES)):
        np.testing.assert_array_equal(task.data.arrays(i).truth, task.data.targets[i])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A whole training and its figures."""
    folder = tmp_path_factory.mktemp("unbroken")
    task, _ = taught(folder / "data", store=True)
    train(task, folder / "run")
    return task, (folder / "run" / METRICS).read_text()


class Killed(Exception):
    pass


@pytest.mark.thorough
@pytest.mark.parametrize(("after", "share"), [(3, 0), (3, 1e9), (4, 1e9)])
def test_a_killed_training_ends_where_an_unbroken_one_does(
    unbroken, tmp_path, monkeypatch, after, share
):
    monkeypatch.setattr(checkpoints, "SHARE", share)
    whole, metrics = unbroken
    assert whole.correction.after == 3

    def kill(epoch):
        if epoch == after:
            raise Killed

    broken, _ = taught(tmp_path / "data")
    with pytest.raises(Killed):
        train(broken, tmp_path / "broken", after_epoch=kill)
    again, _ = taught(tmp_path / "data", store=True)
    train(again, tmp_path / "broken")
    for a, b in zip(
        whole.model.state_dict().values(), again.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    assert (tmp_path / "broken" / METRICS).read_text() == metrics
    assert again.correction.after == 3
    for i in range(len(BOXES)):
        np.testing.assert_array_equal(again.data.targets[i], whole.data.targets[i])
        np.testing.assert_array_equal(again.data.arrays(i).truth, whole.data.arrays(i).truth)
    assert again.priors() == whole.priors()


def test_corrected_targets_of_other_images_are_not_taken(tmp_path):
    task, _ = taught(tmp_path / "data")
    train(task, tmp_path / "run", epochs=3)
    state = torch.load(tmp_path / "run" / RESUME, weights_only=True)
    del state["memory"]["targets"][0]
    torch.save(state, tmp_path / "run" / RESUME)
    task, _ = taught(tmp_path / "data")
    with pytest.raises(RunError, match="of other images"):
        train(task, tmp_path / "run", epochs=3)


def test_a_network_that_says_what_it_is_told_changes_nothing(tmp_path):
    """Answers by hand: IoU 1 with the labels of the whole boxes, 2 of 3 ignored pixels left out."""
    task, truths = taught(tmp_path)
    asked = []

    def predict(model, data, indices, config, device):
        asked.append((data.size, len(indices), config.flips))
        for i in indices:
            data.arrays(i)
            side = data.size
            cut = truths[i][(np.arange(side) * SIDE // side)][:, np.arange(side) * SIDE // side]
            yield i, cut.astype(np.float32)

    correction = Correction(task.config, task.data, predict, "cpu")
    figures = correction.after_epoch(task.model)
    sizes = [t.sum() for t in truths]
    told = [task.data.targets[i].sum() for i in range(len(truths))]
    assert figures == {"own_iou": pytest.approx(sum(told) / sum(sizes)), "corrected": 0.0}
    assert asked == [(SIDE, len(BOXES), "none")]
    correction.ious = [0.5 * (1 - math.exp(-t)) for t in range(1, 5)]
    figures = correction.after_epoch(task.model)
    assert asked[2:] == [(round(SIDE * 0.8), len(BOXES), "x"), (SIDE, len(BOXES), "x")]
    assert correction.after == 5
    assert figures["corrected"] > 0
    for i, truth in enumerate(truths):
        assert iou(task.data.targets[i], truth) > 0.9
    assert correction.after_epoch(task.model)["corrected"] == 0  # once


# --- what is refused, and what stays as it was


def test_volumes_and_several_processes_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="not in whole volumes"):
        configured(dims=3, correct=AT_ONCE, masks="m")
    config = configured(correct=AT_ONCE, masks="m")
    data = loaded(planted(tmp_path, BOXES))
    with pytest.raises(ConfigError, match="one process"):
        SegmenterTask(config, small_unet(), data, range(8), [], 0, "cpu", Share(0, 2))


def test_the_manifest_s_own_masks_are_not_corrected():
    tree = {"data": {"manifest": "m.csv"}, "segmenters": {"u": {"correct": {}}}}
    with pytest.raises(ConfigError, match=r"segmenters\.u\.correct: for masks of another"):
        parse_config(tree)


@pytest.mark.parametrize("bad", [{"slope": 1.0}, {"lesion": 0.4}, {"scales": []}, {"scales": [9]}])
def test_settings_that_cannot_be(bad):
    with pytest.raises(ValueError, match=r"greater|less|at least"):
        CorrectConfig(**bad)


def test_networks_that_correct_nothing_keep_their_name():
    assert "correct" not in SegmenterConfig().fingerprint_settings()
    assert "correct" in SegmenterConfig(masks="m", correct={}).fingerprint_settings()
