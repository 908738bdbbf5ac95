"""What the loop trains a classifier on."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from weakseg.config import ClassifierConfig, parse_config
from weakseg.data.cases import Case, Labels
from weakseg.errors import ConfigError
from weakseg.models.classifier import ClassifierSpec
from weakseg.models.classifiers import build_classifier
from weakseg.models.localising import ClassifierOutput
from weakseg.training.classify import (
    ClassifierTask,
    class_weights,
    erase_cells,
    macro_auc,
    map_difference,
    mirrored_smaller,
)

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
    batches = list(task().batches(0))
    assert batches
    for x, y in batches:
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


def test_classes_are_weighed_by_the_training_labels_alone():
    """Of 40 images every third is a lesion; of those that train all but one are."""
    train = [0, 3, 6, 9, 12, 1]
    val = [i for i in range(40) if i not in train]
    t = ClassifierTask(ClassifierConfig(), LABELS, Planes(40), train, val, 0, "cpu")
    assert t.weights.tolist() == pytest.approx([6 / (2 * 1), 6 / (2 * 5)])


def test_where_one_class_is_validated_auc_is_undefined_and_the_loss_is_not():
    lesions = list(range(0, 40, 3))
    t = ClassifierTask(ClassifierConfig(), LABELS, Planes(40), range(40), lesions, 0, "cpu")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
    figures = t.validate(model)
    assert np.isnan(figures["val_auc"])
    assert np.isfinite(figures["val_loss"])


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


def test_smoothing_draws_no_image_to_a_class_because_it_is_rare():
    """At the probabilities that smoothing asks for the loss is lowest, however rare a class is."""
    t = task(n=12, batch=6, label_smoothing=0.2)
    t.weights = torch.tensor([0.5, 30.0])  # by torch the first class is drawn to 0.13, not 0.9
    targets = torch.tensor([0, 0, 1, 0])
    asked = torch.where(torch.eye(2)[targets] > 0, 0.9, 0.1)
    logits = asked.log().requires_grad_(True)
    t.loss(lambda images: images, (logits, targets)).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(4, 2))
    one = torch.zeros(4, 2, requires_grad=True)
    t.loss(lambda images: images, (one, targets)).backward()
    pull = one.grad.abs().sum(1)
    assert float(pull[2] / pull[0]) == pytest.approx(60)  # an image counts by its class's weight


def test_a_network_that_says_nan_is_not_scored():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2))
    torch.nn.init.constant_(model[1].weight, float("nan"))
    with pytest.raises(FloatingPointError, match="became nan"):
        task().validate(model)


@pytest.mark.parametrize(
    "change", [{"pool": "avg"}, {"stride": 8}, {"exits": True}, {"erase": 0.5}, {"epochs": 3}]
)
def test_each_setting_changes_the_fingerprint(change):
    assert (
        ClassifierConfig.model_validate(change).fingerprint_settings()
        != ClassifierConfig().fingerprint_settings()
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"equivariance": 0.1}, "classifier.equivariance"),
        ({"stride": 4}, "classifier.stride"),
        ({"erase": 1.0}, "classifier.erase"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_by_their_key(change, key):
    with pytest.raises(ConfigError, match=key):
        parse_config({"classifier": change})


def test_every_head_has_the_same_share_of_the_loss():
    t, y = task(n=12, batch=6, exits=True), torch.tensor([0, 0, 1, 0, 1, 1])
    heads = [torch.randn(6, 2) for _ in range(3)]
    loss = t.loss(lambda _x, parts: ClassifierOutput(heads[0], heads[1:], None), (None, y))
    alone = [task(n=12, batch=6).loss(lambda _x, h=h: h, (None, y)) for h in heads]
    torch.testing.assert_close(loss, sum(alone) / 3)


def test_hidden_cells_hold_the_mean_of_their_image_and_the_others_stay():
    torch.manual_seed(0)
    images = torch.rand(200, 2, 18, 16)
    erased = erase_cells(images, 0.3)
    changed = (erased != images).all(1)
    means = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(erased.movedim(1, -1)[changed], means.movedim(1, -1)[changed])
    torch.testing.assert_close(erased.movedim(1, -1)[~changed], images.movedim(1, -1)[~changed])
    assert float(changed.float().mean()) == pytest.approx(0.3, abs=0.02)
    first = changed[:, 1:4, 1:3].flatten(1)  # of one cell: all or nothing
    assert (first.all(1) == first.any(1)).all()


def test_only_training_images_are_erased_and_alike_in_every_run():
    class Noise(Planes):
        def images(self, indices):
            return torch.linspace(0, 1, 64).view(1, 1, 8, 8).repeat(len(indices), 1, 1, 1)

    plain, hidden = task(erase=0.0), task(erase=0.5)
    plain.images = hidden.images = Noise(40)
    (a, _), (b, _), (c, _) = (next(t.batches(0)) for t in (plain, hidden, hidden))
    assert not torch.equal(a, b)
    torch.testing.assert_close(b, c)


class Ramps(Planes):
    """Images of 64 pixels that differ from pixel to pixel."""

    def images(self, indices):
        return torch.linspace(0, 1, 64 * 64).view(1, 1, 64, 64).repeat(len(indices), 1, 1, 1)


def sides_of(epoch=0, **more):
    t = task(n=200, batch=5, **more)
    t.images = Ramps(200)
    return [x.shape[-1] for x, _ in t.batches(epoch)]


def test_training_batches_have_random_sizes_within_the_bounds_and_alike_in_every_run():
    sides = sides_of(sizes=(0.5, 1.25))
    assert set(sides) == {32, 40, 48, 56, 64, 72, 80}
    assert sides == sides_of(sizes=(0.5, 1.25))
    assert sides != sides_of(epoch=1, sizes=(0.5, 1.25))
    assert sides != sides_of(seed=1, sizes=(0.5, 1.25))
    assert set(sides_of()) == {64}


def test_without_sizes_a_network_from_before_the_setting_stays_up_to_date():
    assert "sizes" not in ClassifierConfig().fingerprint_settings()
    assert ClassifierConfig(sizes=(0.5, 1.0)).fingerprint_settings()["sizes"] == [0.5, 1.0]


@pytest.mark.parametrize("sizes", [[1.0, 0.5], [0.1, 1.0], [0.5, 5.0], [1.0, 1.0]])
def test_sizes_out_of_order_or_range_are_refused(sizes):
    with pytest.raises(ConfigError, match=r"classifier\.sizes"):
        parse_config({"classifier": {"sizes": sizes}})


def test_maps_that_follow_the_image_differ_by_nothing_and_others_do():
    ramp = torch.linspace(-2, 2, 16).expand(1, 1, 12, 16)
    places = torch.cat([ramp, -ramp], 1)
    follows = torch.nn.functional.interpolate(
        places.flip(3).softmax(1), size=(9, 12), mode="bilinear"
    ).log()
    assert float(map_difference(places, follows)) < 1e-6
    assert float(map_difference(places, follows.flip(3))) > 0.2


def test_the_copy_is_the_mirror_at_three_quarters_of_the_size():
    images = torch.linspace(0, 1, 32).expand(2, 1, 32, 32)
    small = mirrored_smaller(images)
    assert small.shape == (2, 1, 24, 24)
    assert (small[..., 1:] < small[..., :-1]).all()


def test_equivariance_is_added_to_the_loss_and_trains_the_network():
    torch.manual_seed(0)
    model = build_classifier(ClassifierSpec("resnet18", LABELS.names, 1, pool="lse", stride=16))
    batch = (torch.rand(4, 1, 64, 64), torch.tensor([0, 1, 0, 1]))
    model.eval()  # so that both losses see the same statistics
    free, bound = (task(pool="lse", equivariance=e).loss(model, batch) for e in (0.0, 10.0))
    said = model(batch[0], parts=True)
    small = model(mirrored_smaller(batch[0]), parts=True)
    torch.testing.assert_close(bound - free, 10 * map_difference(said.places, small.places))
    bound.backward()
    assert model.net.conv1.weight.grad.abs().max() > 0
