"""A segmentation network that sees images through a generator (`weakseg adapt`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weakseg.contents import GeneratorHeader
from weakseg.data.cases import Case, Labels
from weakseg.data.patches import CaseArrays
from weakseg.errors import RunError, UserError, first_line, lacks_memory, note_file
from weakseg.heatmaps.segmentation import Call, layers_of
from weakseg.methods.network import NetworkMethod
from weakseg.models.generator import Generator
from weakseg.models.states import load_tensors, not_finite
from weakseg.stored import check
from weakseg.training.adaptation import Site
from weakseg.training.infer import whole_logits
from weakseg.training.segmentation_cases import SegmentationCases
from weakseg.training.weights import load_weights, save_weights

AGAIN = "make it anew: weakseg adapt RUN --method NAME --images IMAGES --out DIR"


class AdaptedCases(SegmentationCases):
    """Cases whose images have gone through a generator; see `SegmentationCases`.

    Parameters
    ----------
    data : SegmentationCases
        Of images, without truth.
    generator : Generator
        In evaluation mode.
    """

    def __init__(self, data: SegmentationCases, generator: Generator) -> None:
        how = (data.channels, data.normalise, data.size)
        super().__init__(data.cases, data.labels, data.data, *how)
        self.generator = generator
        self._device = next(generator.parameters()).device

    def of_size(self, size: int) -> SegmentationCases:
        """The same cases with images of another size, each through the generator in that size."""
        return self if size == self.size else AdaptedCases(super().of_size(size), self.generator)

    def arrays(self, i: int, *, truth: bool = True) -> CaseArrays:
        """What a network sees of a case; in half precision, as it is without a generator."""
        held = super().arrays(i, truth=truth)
        image = torch.from_numpy(np.asarray(held.image, dtype=np.float32))[None]
        region = torch.from_numpy(np.array(held.region, dtype=bool))[None, None]
        with torch.no_grad():
            made = self.generator(image.to(self._device), region.to(self._device))[0]
        return replace(held, image=made.cpu().numpy().astype(held.image.dtype))


@dataclass(frozen=True)
class AdaptedMethod(NetworkMethod):
    """A method of a run whose networks see images through a generator.

    Its threshold, screening and gate are those of the method; the classifiers of a gate see the
    images as they are.

    Attributes
    ----------
    generator : Generator or None
        None leaves images as they are.
    """

    generator: Generator | None = None

    def _as_seen(self, cases: Sequence[Case]) -> SegmentationCases:
        data = super()._as_seen(cases)
        return data if self.generator is None else AdaptedCases(data, self.generator)


def adapted(method: NetworkMethod, generator: Generator) -> AdaptedMethod:
    """A method through a generator."""
    held = {f.name: getattr(method, f.name) for f in fields(NetworkMethod)}
    name = f"{method.name} through a generator"
    return AdaptedMethod(**held | {"name": name}, generator=generator)


def site_of(method: NetworkMethod, cases: Sequence[Case]) -> Site:
    """Images as a method's networks see them, read without masks and without labels."""
    trained = method.networks.settings
    data = SegmentationCases(
        [replace(c, mask=None, label="") for c in cases],
        Labels((), ("",)),
        method.config.data,
        int(trained["channels"]),
        method.settings.normalise,
        int(trained["image_size"]),
    )
    held = [data.arrays(i, truth=False) for i in range(len(data))]

    def stacked(arrays: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack(arrays))

    return Site(
        stacked([h.image for h in held]),
        stacked([h.region for h in held])[:, None],
        stacked([h.fill for h in held]),
    )


class BottleneckFeatures:
    """The maps of a segmenter's bottleneck, with the graph down to its images.

    Parameters
    ----------
    model : nn.Module
        A segmenter in evaluation mode; its weights are not changed.
    site : Site
        The bottleneck is found by running the network on its first image.
    device : torch.device
    """

    def __init__(self, model: nn.Module, site: Site, device: Any) -> None:
        self.model = model
        one = site.batch([0], device)
        self.call: Call = layers_of(
            model, lambda: whole_logits(model, one.image, one.fill)
        ).bottleneck

    def __call__(self, images: Tensor, fill: Tensor) -> Tensor:
        """(B, K, *grid) of images (B, C, H, W)."""
        used = 0

        def catch(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            nonlocal used
            used += 1
            if used == self.call.number + 1:
                raise _Reached(output)

        module = self.model.get_submodule(self.call.name)
        handle = module.register_forward_hook(catch)
        try:
            whole_logits(self.model, images, fill)
        except _Reached as e:  # what comes behind is not needed
            return e.maps
        finally:
            handle.remove()
        raise RunError("The network did not come to its bottleneck.", found=self.call.name)


class _Reached(Exception):  # noqa: N818
    """The bottleneck has given its maps."""

    def __init__(self, maps: Tensor) -> None:
        super().__init__()
        self.maps = maps


class JoinedFeatures:
    """The bottlenecks of several networks.

    Parameters
    ----------
    each : sequence of BottleneckFeatures
        Of networks of one name, which may be of several kinds.
    """

    def __init__(self, each: Sequence[BottleneckFeatures]) -> None:
        self.each = list(each)

    def __call__(self, images: Tensor, fill: Tensor) -> list[Tensor]:
        """(B, K, *grid) of every network."""
        return [one(images, fill) for one in self.each]


def features_of(method: NetworkMethod, site: Site) -> JoinedFeatures:
    """The features of a method's networks, which are frozen by it."""
    for model in method.networks.models:
        model.requires_grad_(False)
    device = method.networks.device
    return JoinedFeatures([BottleneckFeatures(m, site, device) for m in method.networks.models])


def save_generator(path: Path, generator: Generator, method: str, networks: Sequence[str]) -> None:
    """Write a generator as safetensors.

    Parameters
    ----------
    path : Path
    generator : Generator
    method : str
        Whose images it makes.
    networks : sequence of str
        Hashes of the weights of the method's networks.
    """
    held = {"channels": str(generator.channels), "width": str(generator.width)}
    save_weights(path, generator, held | {"method": method, "networks": json.dumps(list(networks))})


def load_generator(path: Path, method: str, networks: Sequence[str]) -> Generator:
    """A generator that `save_generator` wrote, in evaluation mode; no code of the file is run.

    Raises
    ------
    UserError
        If it is missing, no safetensors, or made for other networks.
    RunError
        If it is none of ours, or holds NaN or infinity.
    """
    state, meta = load_weights(path, AGAIN)
    header: Mapping[str, Any] = check(meta, GeneratorHeader, path, AGAIN).model_dump()
    if header["method"] != method or header["networks"] != list(networks):
        raise UserError(
            "The generator was made for other networks.",
            where=str(path),
            found=f"a generator for {header['method']}",
            expected=f"one for {method} of this run",
            fix=AGAIN,
        )
    if (name := not_finite(state)) is not None:
        raise RunError(
            "The weights of the generator are no finite numbers.",
            where=f"{path}, tensor {name!r}",
            found="NaN or infinity",
            fix=AGAIN,
        )
    generator = Generator(int(header["channels"]), int(header["width"]))
    try:
        load_tensors(generator, state)
    except (KeyError, RuntimeError) as e:
        if lacks_memory(e):
            note_file(e, path)
            raise
        raise RunError(
            "The file is no generator of weakseg.", where=str(path), found=first_line(e), fix=AGAIN
        ) from None
    return generator.eval()
