"""What the loop trains a classifier on."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from weakseg.config import ClassifierConfig
from weakseg.data.cases import Case, Labels
from weakseg.training.classify import ClassifierTask, class_weights, macro_auc

LABELS = Labels(("healthy",), ("lesion",))


class Planes:
    """Images whose grey value is their index."""

    def __init__(self, n):
        self.cases = [Case(str(i), None, LABELS.names[i % 3 == 0]) for i in range(n)]

    def images(self, indices):
        return torch.tensor(np.asarray(indices), dtype=torch.float32).view(-1, 1, 1, 1) / 100


def task(n=40, batch=8, seed=0, **more):
    plain = {"flip": False, "rotate": 0, "zoom": 0, "shift": 0, "brightness": 0, "contrast": 0}
    config = ClassifierConfig.model_validate({"batch_size": batch, "augment": plain, **more})
    return ClassifierTask(config, LABELS, Planes(n), range(0, n, 2), range(1, n, 2), seed, "cpu")


def seen(batches):
    return [round(float(v) * 100) for x, _ in batches for v in x.flatten()]


def test_an_epoch_shows_training_images_once_and_no_other():
    t = task(n=40, batch=5)
    assert t.steps == 4
    assert sorted(seen(t.batches(0))) == list(range(0, 40, 2))


def test_orders_differ_between_epochs_and_repeat_with_the_seed():
    a, b = task(), task()
    assert seen(a.batches(0)) == seen(b.batches(0))
    assert seen(a.batches(0)) != seen(a.batches(1))
    assert seen(a.batches(0)) != seen(task(seed=1).batches(0))


def test_targets_are_the_images_own():
    for x, y in task().batches(0):
        index = (x.flatten() * 100).round().long()
        assert (y == (index % 3 == 0).long()).all()


def test_a_set_smaller_than_a_batch_is_one_batch():
    assert task(n=10, batch=64).steps == 1


def test_balanced_weights_are_those_of_sklearn():
    y = np.array([0] * 30 + [1] * 10 + [2] * 5)
    ours = class_weights(y, 3, "balanced").numpy()
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=y)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert class_weights(y, 3, "none").tolist() == [1, 1, 1]


def test_macro_auc_is_sklearns_and_leaves_out_missing_classes():
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 60), rng.dirichlet(np.ones(3), 60)
    assert macro_auc(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))
    two, q = (y > 0).astype(int), np.stack([p[:, 0], 1 - p[:, 0]], 1)
    assert macro_auc(two, q) == pytest.approx(roc_auc_score(two, q[:, 1]))
    assert np.isnan(macro_auc(np.zeros(5, int), q[:5]))


def test_the_loss_is_weighted_cross_entropy():
    t = task(n=12, batch=6, label_smoothing=0.0)
    logits = torch.randn(6, 2)
    y = torch.tensor([0, 0, 1, 0, 1, 1])
    loss = t.loss(lambda _x: logits, (None, y))
    w = t.weights[y]
    by_hand = -(logits.log_softmax(1)[torch.arange(6), y] * w).sum() / w.sum()
    torch.testing.assert_close(loss, by_hand)
