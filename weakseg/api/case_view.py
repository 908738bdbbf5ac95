"""One case of a run: its image, true mask, and what every method made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg.api.figure import Figure, panels, picture_html
from weakseg.data.case_files import (
    as_planes,
    case_image,
    fullest_plane,
    shown_intensity,
)
from weakseg.data.cases import Case
from weakseg.errors import RunError, did_you_mean
from weakseg.heatmaps.store import load_heatmap
from weakseg.layout import mask_file, masks_folder
from weakseg.methods.cases import read_truth
from weakseg.report.pictures import RGB, contours, overlay, strip
from weakseg.report.read import RunTables


class Arrays(Mapping[str, NDArray[Any]]):
    """Method → array, read when it is asked for."""

    def __init__(self, names: Sequence[str], read: Callable[[str], NDArray[Any]]) -> None:
        self._names, self._read = list(names), read

    def __getitem__(self, method: str) -> NDArray[Any]:
        return self._read(method)

    def __contains__(self, method: object) -> bool:
        return method in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"<arrays by method: {', '.join(self._names) or 'none'}>"


class CaseView:
    """A case of a run.

    Attributes
    ----------
    case : Case
    name, label, patient : str
    """

    def __init__(self, run: RunTables, case: Case, method: str | None) -> None:
        self._run, self.case, self._method = run, case, method
        self.name, self.label = case.id, case.label
        row = run.splits[run.splits["case"].astype(str) == case.id].iloc[0]
        self.patient, self.split = str(row["patient"]), str(row["split"])

    @property
    def image(self) -> NDArray[Any]:
        """The image as it is displayed, (M, N) or (M, N, 3)."""
        return case_image(self.case, self._run.config.data)

    @property
    def truth(self) -> NDArray[np.bool_] | None:
        """The true mask; empty of a healthy case without a file; None where it is not known."""
        healthy = self.label in self._run.data.get("healthy_labels", ())
        blank = self.image.shape[: self.case.dims] if healthy and self.case.mask is None else ()
        return read_truth(self.case, blank, healthy, self._run.config.data)

    @property
    def scores(self) -> pd.DataFrame:
        """A row a method and seed: the case's rows of ``per_case.csv``; none outside the test."""
        table = self._run.per_case
        if table.empty:
            return table
        return table[table["case"].astype(str) == self.name].reset_index(drop=True)

    @property
    def masks(self) -> Arrays:
        """Method → mask of its first seed, of the methods that have made one of this case."""
        return Arrays([m for m in self._run.thresholds if self._has_mask(m)], self.mask)

    @property
    def heatmaps(self) -> Arrays:
        """Method → positive heat at the image's size, of its first seed, where it is stored."""
        known = [m for m in self._run.config.heatmap_methods if m in self._run.thresholds]
        return Arrays([m for m in known if self._heat_path(m, None).exists()], self.heatmap)

    def mask(self, method: str | None = None, seed: int | None = None) -> NDArray[np.bool_]:
        """The mask of a method.

        Parameters
        ----------
        method : str, optional
            Default: the one that the report speaks of.
        seed : int, optional
            Default: the first.

        Raises
        ------
        RunError
            If the run has no such mask.
        """
        name = self._named(method)
        of = self._seed(name, seed)
        if not self._has_mask(name, of):
            raise self._nothing("mask", name, of)
        return self._run.mask(name, of, self.case)

    def heatmap(self, method: str | None = None, seed: int | None = None) -> NDArray[np.float32]:
        """Positive heat of a heatmap method, (M, N), not normalised.

        Raises
        ------
        RunError
            If the method is of no heatmap, or none is stored of this case.
        """
        name = self._named(method)
        if name not in self._run.config.heatmap_methods:
            raise RunError(
                f"{name} is of no heatmap.",
                where="method",
                fix=f"choose one of: {', '.join(self._run.config.heatmap_methods)}",
            )
        path = self._heat_path(name, seed)
        if not path.exists():
            raise self._nothing("heatmap", name, self._seed(name, seed))
        return load_heatmap(path).full()

    def plot(self, methods: Any = None, *, seed: int | None = None) -> Figure:
        """The image with the true mask, and what methods made of it.

        Parameters
        ----------
        methods : str or sequence of str, optional
            Default: the one that the report speaks of.
        seed : int, optional

        Returns
        -------
        Figure
            Of matplotlib; notebooks show it, ``savefig`` writes it.
        """
        return panels(self._pictures(methods, seed, 320), self._told())

    def _repr_html_(self) -> str:
        return picture_html(strip([p for _, p in self._pictures(None, None, 220)]), self._told())

    def __repr__(self) -> str:
        return f"CaseView({self.name!r}, {self.label!r}, {self.split})"

    def _told(self) -> str:
        return f"{self.name}: {self.label}, patient {self.patient}, {self.split}"

    def _pictures(self, methods: Any, seed: int | None, size: int) -> list[tuple[str, RGB]]:
        if methods is None:
            default = self._method
            some = [] if default is None or default not in self.masks else [default]
        else:
            some = [methods] if isinstance(methods, str) else list(methods)
        truth, masks = self.truth, {m: self.mask(m, seed) for m in some}
        marked = truth is not None and truth.any()
        fullest = truth if marked else next(iter(masks.values()), None)
        image, how = self.image, shown_intensity(self.case, self._run.config.data)
        at = 0 if fullest is None else fullest_plane(self.case, fullest)
        plane = as_planes(self.case, image)[at]
        true = None if truth is None else as_planes(self.case, truth)[at]
        found = [("truth", contours(plane, truth=true, size=size, intensity=how))]
        for method, mask in masks.items():
            marked = as_planes(self.case, mask)[at]
            if method in self.heatmaps and plane.shape[:2] == marked.shape:
                heat = as_planes(self.case, self.heatmap(method, seed))[at]
                drawn = overlay(plane, heat, marked, true, size=size, intensity=how)
            else:
                drawn = contours(plane, marked, true, size=size, intensity=how)
            found.append((method, drawn))
        return found

    def _named(self, method: str | None) -> str:
        known = list(self._run.thresholds)
        name = self._method if method is None else method
        if not isinstance(name, str) or name not in known:
            raise RunError(
                "The run has made no masks."
                if name is None
                else f"The run has no method {name!r} that has made masks.",
                where="method",
                fix=did_you_mean(str(name), known) if known else "run `weakseg compare CONFIG`",
            )
        return name

    def _seed(self, method: str, seed: int | None) -> int:
        made = [int(s.removeprefix("seed-")) for s in self._run.thresholds[method]]
        if seed is None:
            return made[0]
        if isinstance(seed, bool) or seed not in made:
            raise RunError(
                f"The run has no masks of seed {seed} by {method}.",
                where="seed",
                fix=f"choose one of: {', '.join(map(str, made))}",
            )
        return seed

    def _heat_path(self, method: str, seed: int | None) -> Path:
        return self._run.heatmap_path(method, self._seed(method, seed), self.case.id)

    def _has_mask(self, method: str, seed: int | None = None) -> bool:
        of = self._seed(method, seed)
        suffix = self.case.formats.mask_suffix
        there = masks_folder(self._run.folder)
        return mask_file(there, method, of, self.case.file, suffix).exists()

    def _nothing(self, what: str, method: str, seed: int) -> RunError:
        return RunError(
            f"The run holds no {what} of {self.name} by {method}, seed {seed}.",
            where=str(self._run.folder),
            found=f"a case of the {self.split} split, labelled {self.label}",
            fix=f"masks are stored of test cases; of any image: "
            f"weakseg.load_method({str(self._run.folder)!r}, {method!r}).predict(PATH)",
        )
