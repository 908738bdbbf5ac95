"""``affinity``: a small network learns which pixels belong together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from weakseg.data.arrays import network_image
from weakseg.data.case_files import case_image
from weakseg.masks.rules.affinity import OPEN, AffinityRule, confident
from weakseg.methods.trainable.base import Arrays, Context, TrainedState, Trainer, coarse_side
from weakseg.models.affinity import AffinityNet, channels_of
from weakseg.training.affinity import train_affinity


def _fit(rule: AffinityRule, context: Context) -> TrainedState:
    data = context.config.data
    side = coarse_side(data.image_size)
    images, labels = [], []
    for case, heat in context.pairs():
        planes, box = network_image(
            case_image(case, data), context.channels, side, context.intensity
        )
        sure = np.full((side, side), OPEN, dtype=np.uint8)
        sure[box.top : box.top + box.height, box.left : box.left + box.width] = confident(
            heat, (box.height, box.width), high=rule.high, low=rule.low
        )
        images.append(planes)
        labels.append(sure)
    if not images:
        raise LookupError("no training image has a lesion label")
    net = train_affinity(
        np.stack(images),
        np.stack(labels),
        radius=rule.radius,
        epochs=rule.epochs,
        seed=context.seed,
    )
    return _state_of(net, context)


def _restore(arrays: Arrays, context: Context) -> TrainedState:
    state = {k: torch.from_numpy(v) for k, v in arrays.items()}
    net = AffinityNet(channels_of(state))
    net.load_state_dict(state)
    return _state_of(net.eval(), context)


def _state_of(net: AffinityNet, context: Context) -> TrainedState:
    state = {k: v.detach().numpy() for k, v in net.state_dict().items()}
    side, channels = coarse_side(context.config.data.image_size), channels_of(net.state_dict())

    def features(image: npt.ArrayLike) -> npt.NDArray[np.float32]:
        planes, box = network_image(np.asarray(image), channels, side, context.intensity)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            planes_of = net(torch.from_numpy(planes)[None])[0].numpy()
        window = planes_of[:, box.top : box.top + box.height, box.left : box.left + box.width]
        return np.ascontiguousarray(np.moveaxis(window, 0, 2))

    return TrainedState(state, features)


TRAINER: Trainer = Trainer("affinities are learnt from the training {teacher}", _fit, _restore)
