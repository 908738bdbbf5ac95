"""A folder that `weakseg export` has written, as a method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weakseg.config import Config
from weakseg.data.arrays import network_image
from weakseg.data.case_files import intensity_of, network_input, seen_image
from weakseg.data.cases import Case
from weakseg.data.geometry import Letterbox
from weakseg.engines.base import FP32, Session
from weakseg.engines.registry import ENGINES
from weakseg.errors import (
    ConfigError,
    RunError,
    UserError,
    did_you_mean,
    first_line,
    lacks_memory,
    note_file,
)
from weakseg.exporting.about import read_about
from weakseg.exporting.description import ABOUT, AGAIN, ONNX, OUTPUTS, InputContent, side_of
from weakseg.exporting.volumes import FORMAT, volumes_method
from weakseg.heatmaps.store import Heatmap, as_stored
from weakseg.masks.thresholds import is_flat, normalise
from weakseg.methods.base import HEATMAP, Method, Prediction, refuse_other_dims
from weakseg.methods.network import beside_each
from weakseg.methods.network_mask import looks_beside, of_evidence, outlined
from weakseg.runs import content_hash


def _where(box: Letterbox) -> np.ndarray:
    """Where an image lies in its square, and its own size."""
    where = (box.top, box.left, box.height, box.width, *box.original)
    return np.array(where, dtype=np.int64)


def is_exported(folder: Path) -> bool:
    """Whether a folder is an exported method, and no run."""
    return (folder / ABOUT).is_file()


@dataclass(frozen=True, eq=False)
class ExportedMethod(Method):
    """A method whose model is a file.

    Attributes
    ----------
    name, seeds, config
        See `weakseg.methods.base.Method`; of the experiment only what says how images are read.
    about : mapping
        ``model.json``.
    session : callable
        See `weakseg.engines.base.Session`.
    engine : str
        Whose session it is.
    """

    name: str
    seeds: tuple[int, ...]
    config: Config
    about: Mapping[str, Any]
    session: Session
    engine: str

    @property
    def kind(self) -> str:
        return str(self.about["kind"])

    @property
    def masks_seen(self) -> int:
        return int(self.about["threshold"]["masks_seen"])

    @property
    def chosen_on(self) -> str:
        return str(self.about["threshold"]["chosen_on"])

    @property
    def dims(self) -> int:
        return 2

    @property
    def sliced(self) -> bool:
        """Whether its images are slices of volumes."""
        return bool(self.about.get("takes") == "slices")

    @property
    def at_once(self) -> int:
        return 1

    @property
    def looks_beside(self) -> bool:
        return looks_beside(self._cuts)

    @property
    def _cuts(self) -> dict[str, Any]:
        """As an entry of ``threshold.json``."""
        return {**self.about["threshold"], "gate": self.about["gate"]}

    def predict_each(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        yield from self.predict_all(cases)

    def predict_all(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        refuse_other_dims(cases, self.dims)

        def image(i: int) -> np.ndarray:
            return seen_image(cases[i], self.config.data)

        if not self.looks_beside:
            for i, found in enumerate(map(self._of, cases)):
                mask = outlined(found.mask, found.map, partial(image, i), self._cuts)
                yield replace(found, mask=mask)
            return
        words: dict[int, float | None] = {}

        def said() -> Iterator[tuple[int, np.ndarray]]:
            for i, case in enumerate(cases):
                found = self._of(case)
                words[i] = found.probability
                yield i, found.map

        around = beside_each(said(), cases, range(len(cases)), self._cuts["inference"])
        for evidence in around:
            yield of_evidence(self._cuts, evidence, words.get, image)

    def _of(self, case: Case) -> Prediction:
        data, seen = self.config.data, self.about["input"]
        image, how = network_input(case, data), intensity_of(case, data)
        asked = [side_of(name, seen["size"]) for name in self.about["inputs"]]
        squares = {s: network_image(image, seen["channels"], s, how) for s in {s for _, s in asked}}
        arrays = [
            planes[None].astype(np.float32) if what == "images" else _where(box)
            for what, (planes, box) in ((what, squares[side]) for what, side in asked)
        ]
        try:
            answer = self.session(arrays)
        except MemoryError:
            raise
        except Exception as e:  # engines raise kinds of their own
            raise RunError(
                "The model fails on the image.",
                where=case.shown,
                found=first_line(e),
                expected=f"a model that takes what {ABOUT} lists as inputs, and room for the image",
                fix=f"where {ABOUT} or {ONNX} was changed, {AGAIN}; else predict a smaller image",
            ) from None
        (_, box), *_ = squares.values()
        found = self._answer(answer, box.original)
        mask, shown = found["mask"].astype(bool), found["map"]
        if not all(np.isfinite(v).all() for v in found.values()):
            raise RunError(
                "The model's answer is no number (NaN or infinity).",
                where=case.shown,
                fix="export the method again, and look at the run's network",
            )
        p = round(float(found["probability"]), 6) if "probability" in found else None
        gated = p is not None and p < self.about["gate"]
        notes: dict[str, Any] = {}
        heat = None
        if "heat" in found:
            how = self.about["heatmap"]
            labels = (how["layer"], how["method"], how["target"])
            raw = found["heat"][0]
            heat = as_stored(Heatmap(raw, box.original, seen["size"], *labels, float(p or 0)))
            notes["predicted_label"] = self.about["labels"][int(found["probabilities"].argmax())]
            notes["flat_heatmap"] = heat.flat
        else:
            notes["highest_probability"] = round(float(shown.max()), 6)
        flat = heat is not None and is_flat(shown)
        return Prediction(mask, shown, p, flat, gated, heat, notes)

    def _answer(self, arrays: Sequence[np.ndarray], size: tuple[int, int]) -> dict[str, np.ndarray]:
        """What the model gave, by name.

        Raises
        ------
        RunError
            If that is not what ``model.json`` says of it.
        """
        said = list(self.about["outputs"])
        if len(said) == len(arrays):
            found = dict(zip(said, arrays, strict=True))
            grid = found["heat"].shape[1:3] if "heat" in found else ()
            forms = {
                "mask": ("u", size),
                "map": ("f", size),
                "probability": ("f", ()),
                "probabilities": ("f", (len(self.about["labels"]),)),
                "heat": ("f", (1, *grid)),
            }
            if all((a.dtype.kind, a.shape) == forms[name] for name, a in found.items()):
                return found
        raise RunError(
            f"The model does not give what {ABOUT} says.",
            where=ABOUT,
            found="outputs: " + ", ".join(f"{a.dtype} {a.shape}" for a in arrays),
            expected=", ".join(f"{name}: {OUTPUTS[name].partition(':')[0]}" for name in said),
            fix=AGAIN,
        )

    def confidence(self, prediction: Prediction) -> np.ndarray:
        return normalise(prediction.map) if self.kind == HEATMAP else prediction.map


def load_exported(
    folder: Path, method: str | None = None, *, seed: int | None = None, engine: str | None = None
) -> tuple[Method, bool, str]:
    """An exported method, ready for new images; whether these are slices; what engine runs it.

    Parameters
    ----------
    folder : Path
    method : str, optional
        Only the one that it holds.
    seed : int, optional
        There is none to choose.
    engine : str, optional
        A key of `ENGINES`; default: ``onnxruntime``, or what is installed.

    Raises
    ------
    RunError
        If a file is missing or damaged.
    UserError
        For another method, a seed, or an engine that is not installed.
    """
    about = read_about(folder)
    if method not in (None, about["method"]) or seed is not None:
        raise UserError(
            f"The folder holds one method, {about['method']}.",
            where="--seed" if seed is not None else "--method",
            fix="leave the option out, or name the run itself",
        )
    able = [e for e in ENGINES.values() if not e.missing(graphs=False)]
    if engine in (None, "auto"):
        engine = able[0].name if able else next(iter(ENGINES))
    if engine not in ENGINES:
        raise ConfigError(
            f"The engine {engine!r} runs no exported model.",
            where="--engine",
            fix=did_you_mean(str(engine), ENGINES),
        )
    if ENGINES[engine].missing(graphs=False):
        raise ConfigError(
            f"The engine {engine} is not installed.", where="--engine", fix=ENGINES[engine].install
        )

    def load(file: str) -> Session:
        try:
            graph = (folder / file).read_bytes()
        except FileNotFoundError:
            raise RunError("The model is missing.", where=str(folder / file), fix=AGAIN) from None
        except OSError as e:
            said = e.strerror or type(e).__name__
            raise RunError(
                "The model cannot be read.", where=str(folder / file), found=said, fix=AGAIN
            ) from None
        told = about.get("hashes", {}).get(file)  # earlier exports tell none
        if told is not None and (found := content_hash(graph)) != told:
            raise RunError(
                f"The model is damaged, or is not the one that {ABOUT} is of.",
                where=str(folder / file),
                found=f"hash {found}",
                expected=f"hash {told}",
                fix=AGAIN,
            )
        try:
            threads = torch.get_num_threads()  # which OMP_NUM_THREADS sets
            return ENGINES[engine].load(graph, threads, FP32)
        except Exception as e:  # engines raise kinds of their own
            if lacks_memory(e):
                note_file(e, folder / file)
                raise
            found = type(e).__name__
            raise RunError(
                "The model is damaged.", where=str(folder / file), found=found, fix=AGAIN
            ) from None

    if about.get("format") == FORMAT:
        return volumes_method(about, load), False, engine
    session = load(ONNX)
    data = InputContent.model_validate(about["input"]).as_data()
    volumes = about.get("volumes", {})
    config = Config.model_validate(
        {"name": "exported", "data": data.model_dump(), "volumes": volumes}
    )
    seeds = tuple(about["seeds"])
    exported = ExportedMethod(about["method"], seeds, config, about, session, engine)
    return exported, exported.sliced, engine
