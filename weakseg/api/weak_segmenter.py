"""``weakseg.WeakSegmenter``: from images and labels to masks, with scikit-learn's habits.

The stages and methods are those of the commands: `fit` is ``weakseg compare`` on a manifest of
what it was handed, and leaves a run folder.

One room for one class, whose methods are scikit-learn's contract.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from weakseg.api.given import given_folder, keep_given
from weakseg.api.inputs import listed
from weakseg.api.opened import OpenedRun, open_run
from weakseg.api.saved import RUN, check_classes, read_saved, write_saved
from weakseg.api.settings_tree import experiment_tree
from weakseg.api.training_set import Written, as_file, write_set
from weakseg.api.true_masks import read_masks
from weakseg.config import Config, parse_config
from weakseg.data.cases import Case
from weakseg.data.formats.registry import formats_of_dims
from weakseg.disk import as_path
from weakseg.errors import ArgumentError, RunError, UserError, count
from weakseg.layout import GRAPHS
from weakseg.methods.base import Method, Prediction
from weakseg.methods.find import load_method
from weakseg.predicting.unlike import Unlike
from weakseg.scores import dice
from weakseg.stages.compare import compare
from weakseg.stages.prepare import prepared_run
from weakseg.stages.report import make_report


class WeakSegmenter(BaseEstimator):
    """Masks of images, learnt from a label an image.

    Parameters
    ----------
    recipe : {"none", "best-weak"} or None, optional
        ``best-weak`` adds the best that this version makes of labels alone (docs/weak.md).
    config : str, Path, dict or Config, optional
        The experiment that all other arguments are laid over, where they are given: a file, the
        name of one that comes with weakseg, or its keys.
    method : str, optional
        Whose masks `predict` gives; default: the one that the report speaks of.
    arch, weights, epochs, image_size : optional
        Of the classifier, see the keys ``classifier.arch``, …, ``data.image_size``.
    seeds : int or sequence of int, optional
        Of the classifiers: how many, or which.
    rules : str or sequence of str or dict, optional
        What makes masks of heatmaps, as ``masks.rules``.
    healthy_labels, lesion_labels : label or sequence of labels, optional
        Which labels mean no lesion, or one; default: the usual names are known.
    fast : bool, optional
        A small, quick run to try things with: not for results.
    random_state : int, RandomState or Generator, optional
        The experiment's seed, or what draws it. Default: ``config``'s; without one, 0.
    device : str, optional
        ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``. Default: ``config``'s; without one,
        ``auto``.
    run_dir : str or Path, optional
        Where the run lies, see docs/run-folder.md; it goes on there where it was broken off. What
        `fit` is handed is kept beside it, in ``RUN-given``, in the place of what an earlier `fit`
        was: once it is checked, and not before. Default: a temporary folder that goes with this
        object.
    settings : dict, optional
        Any other key of an experiment, such as ``{"classifier.batch_size": 8}``.
    verbose : bool, optional
        Tell on standard error what is being done.

    Attributes
    ----------
    run_dir_ : Path
        The run folder.
    config_ : Config
        The experiment, every default written out.
    classes_ : ndarray
        The labels, healthy ones first, as they were handed over.

    Examples
    --------
    >>> import weakseg as ws
    >>> seg = ws.WeakSegmenter(fast=True)
    >>> seg.fit(images, labels, patients=patients)  # doctest: +SKIP
    >>> masks = seg.predict(new_images)  # doctest: +SKIP
    >>> page = seg.report("report/")  # doctest: +SKIP
    """

    def __init__(
        self,
        recipe: str | None = None,
        *,
        config: Any = None,
        method: str | None = None,
        arch: str | None = None,
        weights: str | None = None,
        epochs: int | None = None,
        image_size: int | None = None,
        seeds: Any = None,
        rules: Any = None,
        healthy_labels: Any = None,
        lesion_labels: Any = None,
        fast: bool = False,
        random_state: Any = None,
        device: str | None = None,
        run_dir: Any = None,
        settings: Mapping[str, Any] | None = None,
        verbose: bool = True,
    ) -> None:
        self.recipe, self.config, self.method = recipe, config, method
        self.arch, self.weights, self.epochs = arch, weights, epochs
        self.image_size, self.seeds, self.rules = image_size, seeds, rules
        self.healthy_labels, self.lesion_labels = healthy_labels, lesion_labels
        self.fast, self.random_state, self.device = fast, random_state, device
        self.run_dir, self.settings, self.verbose = run_dir, settings, verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.two_d_array = False
        tags.no_validation = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "run_dir_")

    def fit(
        self,
        images: Any,
        labels: Any = None,
        *,
        masks: Any = None,
        patients: Any = None,
        splits: Any = None,
    ) -> WeakSegmenter:
        """Train, segment and score: all that ``weakseg compare`` does.

        Parameters
        ----------
        images : sequence of path or array, or (N, M, N[, 3]) ndarray
            Or the path of a manifest, without anything else (docs/data.md).
        labels : sequence of str, int or bool
            A label an image; True is a lesion, 0 and the usual names are healthy.
        masks : sequence of path, (M, N) array or None, optional
            True masks, read by ``data.mask_rule``, arrays as files of their values are; for scores
            alone unless the experiment asks for more: segmenters and rules may be trained on those
            of training images (``segmenters``, ``teacher: masks``), and thresholds and the like
            chosen on those of validation images. What saw some says how many.
        patients : sequence of str or int, optional
            Splits are by patient. Without, images that look alike are kept together.
        splits : sequence of {"train", "val", "test"}, optional

        Returns
        -------
        WeakSegmenter
            Itself.

        Raises
        ------
        DataError
            With every problem of images, labels and masks.
        ConfigError, ArgumentError
        """
        seed = _seed_of(self.random_state)
        kept = self.run_dir is not None
        if kept:
            work = as_path(self.run_dir, "a run folder").absolute()
        else:
            work = Path(tempfile.mkdtemp(prefix="weakseg-"))

        def write(folder: Path, replaces: Path | None = None) -> Written:
            beside = {"masks": masks, "patients": patients, "splits": splits}
            return write_set(folder, images, labels, **beside, replaces=replaces)

        def check(made: Written) -> None:
            config = self._experiment(made, seed)
            with _quiet(True), prepared_run(config, work, dry_run=True):
                pass

        try:
            if labels is None:
                made = Written(self._manifest(images, masks, patients, splits), {}, False)
            elif kept:
                made = keep_given(work, lambda to: write(to, given_folder(work)), check)
            else:
                made = write(work / "given")
            config = self._experiment(made, seed)
            run = work if kept else work / config.name
            with _quiet(not self.verbose), prepared_run(config, run) as prepared:
                names = prepared.cases.labels.names
                compare(prepared)
        except BaseException:
            if not kept:
                shutil.rmtree(work, ignore_errors=True)
            raise
        self._forget()
        if not kept:
            self._finalizer = weakref.finalize(self, shutil.rmtree, work, True)
        self.run_dir_, self.config_ = run, config
        self.classes_ = np.asarray([made.labels.get(n, n) for n in names])
        return self

    def _manifest(self, images: Any, masks: Any, patients: Any, splits: Any) -> Path:
        given = {"masks": masks, "patients": patients, "splits": splits}
        beside = [k for k, v in given.items() if v is not None]
        path = Path(images) if isinstance(images, str | Path) and str(images) else None
        if path is None or path.suffix.lower() != ".csv" or beside:
            raise ArgumentError(
                "labels are missing.",
                where="labels",
                found="None" if not beside else f"a manifest, and {', '.join(beside)} beside it",
                expected="a label an image; or as images the path of a manifest (.csv) alone",
            )
        return path.absolute()

    def _experiment(self, made: Written, seed: int | None) -> Config:
        tree = experiment_tree(self.get_params(deep=False), made.manifest, seed)
        if made.unit:  # arrays in [0, 1] are taken as they are
            tree.setdefault("data", {}).setdefault("intensity", "dtype")
        return parse_config(tree, "WeakSegmenter")

    def _forget(self) -> None:
        """Take away what an earlier `fit` has left."""
        finalizer = self.__dict__.pop("_finalizer", None)
        if finalizer is not None:
            finalizer()
        for name in ("run_dir_", "config_", "classes_", "_loaded"):
            self.__dict__.pop(name, None)

    def _check_fitted(self) -> Path:
        if not hasattr(self, "run_dir_"):
            raise NotFittedError(
                "This WeakSegmenter is not fitted yet: call fit(images, labels) first."
            )
        return self.run_dir_

    def _method(self) -> Method:
        folder = self._check_fitted()
        device = self.config_.device if self.device is None else self.device
        wanted = (self.method, device)
        if self.__dict__.get("_loaded", (None,))[0] != wanted:
            made = load_method(folder, self.method, device=device)
            self._loaded = (wanted, made)
        return self._loaded[1]

    @property
    def _noun(self) -> str:
        """What it makes masks of: image or volume."""
        return formats_of_dims(self._method().dims).noun

    def predict(self, images: Any, *, denoise: bool = False) -> Any:
        """Masks of new images, at their own size.

        Parameters
        ----------
        images : path, array, or a sequence of these, or (N, M, N[, 3]) ndarray
        denoise : bool, optional
            Smooth images that are noisier than those that it was fitted on before anything looks at
            them, as ``weakseg predict --denoise`` does; all others stay as they are.

        Returns
        -------
        list of (M, N) ndarray of bool
            Of an array (N, …) an array (N, M, N); of one image its mask alone.

        Warns
        -----
        UserWarning
            Where images are unlike those that it was fitted on, such as floats beside 8 bits, whose
            intensities are scaled otherwise.
        """
        images = _kept(images)
        masks = [p.mask for p in self._predictions(images, denoise)]
        if listed(images, stacked=True)[1]:
            return masks[0]
        return np.stack(masks) if isinstance(images, np.ndarray) and images.ndim > 1 else masks

    def predict_proba(self, images: Any, *, denoise: bool = False) -> NDArray[np.float64]:
        """The probability of no lesion and of one somewhere in each image, (N, 2)."""
        said = [p.probability for p in self._predictions(images, denoise)]
        if any(p is None for p in said):
            raise UserError(
                f"The method {self._method().name} asks no classifier.",
                where="method",
                fix="choose a heatmap method, or a segmenter with a gate",
            )
        p = np.asarray(said, dtype=np.float64)
        return np.stack([1 - p, p], axis=1)

    def heatmaps(self, images: Any, *, denoise: bool = False) -> list[NDArray[np.float32]]:
        """What the masks are made of: positive heat, or a network's probability, (M, N) each."""
        return [p.map for p in self._predictions(images, denoise)]

    def _predictions(self, images: Any, denoise: bool) -> list[Prediction]:
        method = self._method()
        data = method.config.data
        unlike = Unlike(self.run_dir_, data, self._noun, denoise, option="denoise=True")
        limits = unlike.noise_limits if denoise else ()
        some, _ = listed(images, stacked=True)
        with tempfile.TemporaryDirectory(prefix="weakseg-") as folder:
            files = [
                as_file(x, Path(folder), f"image-{k:05d}", f"images[{k}]")
                for k, (_, x) in enumerate(some)
            ]
            # Of what is no file nobody knows whether it follows another: each stands alone.
            cases = [
                Case(
                    f"image-{k:05d}",
                    f,
                    "",
                    patient="" if isinstance(x, str | Path) else f"{k}",
                    smooth_above=limits,
                )
                for k, (f, (_, x)) in enumerate(zip(files, some, strict=True))
            ]
            made = list(method.predict_each(cases))
            unlike.look(cases)
        if told := unlike.summary():
            warnings.warn(told, stacklevel=3)
        return made

    def score(self, images: Any, masks: Any, *, denoise: bool = False) -> float:
        """The mean Dice of images with a lesion, against true masks; NaN without any.

        Parameters
        ----------
        images : as `predict`
        masks : sequence of path, (M, N) array or None
            As `fit` takes them, and read by the experiment's ``data.mask_rule``. Images without a
            mask, or with an empty one, do not count.
        denoise : as `predict`
        """
        images, masks = _kept(images), _kept(masks)
        made = self.predict(images, denoise=denoise)
        if listed(images, stacked=True)[1]:
            made, masks = [made], [masks]
        if len(masks) != len(made):
            raise ArgumentError(
                "masks and images are of different lengths.",
                where="masks",
                found=f"{len(masks)} beside {count(len(made), self._noun)}",
            )
        rule = self.config_.data.mask_rule
        true = read_masks(masks, [m.shape for m in made], rule)
        pairs = [(m, t) for m, t in zip(made, true, strict=True) if t is not None and t.any()]
        return float(np.mean([dice(m, t) for m, t in pairs])) if pairs else float("nan")

    @property
    def run(self) -> OpenedRun:
        """The run, for looking at; see `weakseg.open_run`."""
        return open_run(self._check_fitted())

    @property
    def scores(self) -> pd.DataFrame:
        """A row a method, with intervals, on the test split; empty where no mask was given."""
        return self.run.scores

    def report(self, out: Any, *, gallery: int | None = None) -> Path:
        """Write the report into a folder; the page. See `weakseg.make_report`."""
        with _quiet(not self.verbose):
            return make_report([self._check_fitted()], as_path(out, "a folder"), gallery=gallery)

    def save(self, folder: Any) -> Path:
        """Keep a fitted segmenter: its run folder, whose weights are safetensors, and its settings.

        Images that were handed over as arrays are not kept: a report of what was loaded again has
        no pictures of them.

        Parameters
        ----------
        folder : str or Path
            New, or empty.

        Returns
        -------
        Path
            The folder; `load` reads it.
        """
        run, there = self._check_fitted(), as_path(folder, "a folder")
        if there.resolve().is_relative_to(run.resolve()):
            raise RunError(
                "A segmenter is not kept inside of its own run folder.",
                where=str(there),
                fix="name a folder beside it",
            )
        if there.exists() and (not there.is_dir() or any(there.iterdir())):
            raise RunError("There is something already.", where=str(there), fix="name a new folder")
        there.mkdir(parents=True, exist_ok=True)
        left_out = shutil.ignore_patterns("*.pt", "*.pt.*", ".*", "superseded", GRAPHS)
        shutil.copytree(run, there / RUN, ignore=left_out)
        write_saved(there, self.get_params(deep=False), self.classes_.tolist())
        return there

    @classmethod
    def load(cls, folder: Any) -> WeakSegmenter:
        """A segmenter that `save` has kept. No code of a file is run.

        Raises
        ------
        RunError
            If it is none, or damaged.
        """
        there = as_path(folder, "a folder")
        params, classes = read_saved(there, cls().get_params(deep=False))
        made = cls(**{**params, "run_dir": None})
        made.run_dir_ = there / RUN
        run = open_run(made.run_dir_)
        made.config_ = run.config
        data = run.record["data"]
        check_classes(there, classes, [*data["healthy_labels"], *data["lesion_labels"]])
        made.classes_ = np.asarray(classes)
        return made

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds of one that is not fitted; a fitted one is kept by `save`."""
        if "run_dir_" in self.__dict__:
            raise RunError(
                "A fitted WeakSegmenter is not pickled: a pickle runs code, and would lack its run "
                "folder.",
                fix="seg.save(FOLDER), and WeakSegmenter.load(FOLDER)",
            )
        return dict(super().__getstate__())


def _kept(given: Any) -> Any:
    """What was handed over; a list of what an iterator gives, which can be asked only once."""
    return list(given) if isinstance(given, Iterator) else given


def _seed_of(random_state: Any) -> int | None:
    """The seed of an experiment; None where nobody has asked for one."""
    if random_state is None:
        return None
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if 0 <= int(random_state) < 2**31:
            return int(random_state)
    elif isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    elif isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    raise ArgumentError(
        "random_state is no seed.",
        where="random_state",
        found=f"{random_state!r}"[:60],
        expected="a whole number from 0 to 2147483647, a RandomState, a Generator, or None",
    )


@contextlib.contextmanager
def _quiet(quiet: bool) -> Iterator[None]:
    """Keep what stages tell on standard error to oneself."""
    if not quiet:
        yield
        return
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        yield
