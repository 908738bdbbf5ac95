"""Masks of training images that another method makes, for a network to be trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from weakseg.config import MANIFEST, SegmenterConfig, fingerprint
from weakseg.current import is_current, require_whole
from weakseg.errors import RunError, UserError, did_you_mean
from weakseg.layout import segmenter_stage, targets_stage, threshold_file
from weakseg.masks.kept import read_thresholds
from weakseg.methods.base import Entry, Method, seed_of
from weakseg.methods.find import kind_of, method_names
from weakseg.methods.heatmap import SEGMENT_FIRST
from weakseg.methods.masks_seen import MasksSeen, masks_seen
from weakseg.methods.other_runs import other_run
from weakseg.methods.outside import LENT_MASKS, LENT_MASKS_FROM, as_taken
from weakseg.methods.prepared import Prepared
from weakseg.methods.segmenters import is_trained, segmenter_settings
from weakseg.runs import RECORD, Run


@dataclass(frozen=True)
class PseudoLabelSource:
    """A method that can make masks of training images.

    Attributes
    ----------
    prepared : Prepared
        The run that holds it: the one that is trained for, or another of the same data and splits.
    method : str
    seed : int
        Of its network; of several whose probabilities are averaged the first.
    threshold : mapping
        Its entry in ``threshold.json``.
    key : str
        Fingerprint of all that its masks depend on.
    """

    prepared: Prepared
    method: str
    seed: int
    threshold: Entry
    key: str

    @property
    def seen(self) -> MasksSeen:
        """The true masks that had a part in it."""
        return masks_seen(self.threshold)

    def inputs(self, run: Run) -> tuple[str, ...]:
        """Stages of a run whose outputs it reads; weights and other runs are in its key."""
        config = self.prepared.config
        if self.prepared.run.folder != run.folder:
            return ()
        return kind_of(config, self.method).inputs(config, self.method, self.seed)

    def load(self) -> Method:
        """The method, without its gate and screening: the label says that there is a lesion."""
        kind = kind_of(self.prepared.config, self.method)
        return kind.of_run(self.prepared, self.method, self.seed, self.threshold, False)


def find_source(
    prepared: Prepared, masks: str, seed: int, lent_by: Path | None = None
) -> PseudoLabelSource:
    """The method that a segmenter's ``masks`` names.

    Parameters
    ----------
    prepared : Prepared
        The run that is trained for.
    masks : str
        ``METHOD`` or ``RUN/METHOD``.
    seed : int
        Of the segmenter that is trained: the method's network of the same seed is taken, or, where
        it has none, its first.
    lent_by : Path, optional
        Where ``RUN`` lies, see `lender`; default: as it is written.

    Raises
    ------
    UserError
        For a method that is not there, or an upper bound.
    RunError
        If the method has made no masks yet, or could make none, or in a run of other data or
        splits.
    """
    folder, method = _lent_by(masks), masks.rpartition("/")[2]
    origin = prepared
    if folder:
        origin = other_run(prepared, lent_by or Path(folder), "masks")
    config, run = origin.config, origin.run
    methods = method_names(config)
    if method not in methods:
        raise UserError(
            f"The run has no method {method!r} whose masks could be trained on.",
            where=f"segmenters: masks: {masks}",
            fix=did_you_mean(method, methods),
        )
    kind = kind_of(config, method)
    chosen = seed_of(kind, config, method, seed)
    path = threshold_file(origin.thresholds_in(method), method)
    if method not in origin.fitted:
        require_whole(run, kind.stage(method), path)
    entry = read_thresholds(path).get(f"seed-{chosen}") if path.exists() else None
    why = _left_out(origin, method) if entry is None else None
    if why is not None:
        raise RunError(
            f"{method} could make no masks of seed {chosen}.",
            where=str(run.folder),
            found=why,
            fix=f"name another method than {masks} in the segmenter's masks, or give the rule "
            "what it lacks",
        )
    if entry is None:
        raise RunError(
            f"{method} has made no masks of seed {chosen} yet.",
            where=str(run.folder),
            fix=SEGMENT_FIRST,
        )
    if entry.get("upper_bound"):
        raise UserError(
            f"{method} is an upper bound: it needs true masks of the images that it segments.",
            where=f"segmenters: masks: {masks}",
            fix="name a method that needs none",
        )
    made_of, kept = kind.made_of(origin, method, chosen, entry, None if folder else source_key)
    key = fingerprint("masks of", method, chosen, kept, made_of)
    return PseudoLabelSource(origin, method, chosen, entry, key)


def source_key(prepared: Prepared, name: str, seed: int) -> str | None:
    """Fingerprint of the masks that a segmenter's network learns from; None of the manifest's.

    Where another run lends them, and it has gone, as the record says that they were.
    """
    masks = prepared.config.segmenters[name].masks
    if masks == MANIFEST:
        return None
    folder = lender(prepared, name, seed)
    lent = _taken_masks(prepared, name, seed) if is_gone(folder) else None
    return lent or find_source(prepared, masks, seed, folder).key


def lender(prepared: Prepared, name: str, seed: int) -> Path | None:
    """The folder of another run that is to lend a segmenter masks; None where none is.

    A path is that of the folder in which the command is called; where no run is there, the one
    that lent the masks, as far as the record says where it lay and it is still named so.
    """
    folder = _lent_by(prepared.config.segmenters[name].masks)
    if not folder:
        return None
    named, stages = Path(folder), prepared.run.record.get("stages", {})
    taken = stages.get(segmenter_stage(name, seed), {}).get(LENT_MASKS_FROM)
    if (named / RECORD).exists() or taken is None or not (Path(taken) / RECORD).exists():
        return named
    same = Path(taken).parts[-len(named.parts) :] == named.parts
    return Path(taken) if same else named


def is_gone(folder: Path | None) -> bool:
    """Whether another run is to lend masks, see `lender`, and is not there (any more)."""
    return folder is not None and not (folder / RECORD).exists()


def stands_by_itself(prepared: Prepared, name: str, seed: int) -> bool:
    """Whether the run that has lent a segmenter its masks has gone, and nothing is left to make."""
    stages = prepared.run.record.get("stages", {})
    gone = is_gone(lender(prepared, name, seed))
    lent = _taken_masks(prepared, name, seed) if gone else None
    if lent is None or not is_trained(prepared, name, seed, lent):
        return False
    told = targets_stage(name, seed)
    return told in stages and is_current(
        prepared.run, told, targets_key(segmenter_settings(prepared, name, seed), lent)
    )


def targets_key(settings: SegmenterConfig, source: str) -> str:
    """Fingerprint of what a network is told by masks of the key ``source``."""
    return fingerprint("targets", 1, source, settings.ignore)


def _lent_by(masks: str) -> str:
    """The folder of another run that a segmenter's ``masks`` names; blank without one."""
    return masks.rpartition("/")[0]


def _taken_masks(prepared: Prepared, name: str, seed: int) -> str | None:
    stages = prepared.run.record.get("stages", {})
    return as_taken(stages, segmenter_stage(name, seed), LENT_MASKS, None)


def _left_out(prepared: Prepared, method: str) -> str | None:
    """Why a method of the present settings made no masks."""
    kind = kind_of(prepared.config, method)
    entry = prepared.run.record.get("stages", {}).get(kind.stage(method), {})
    if entry.get("asked") != kind.settings(prepared.config, method):
        return None
    reason: str | None = entry.get("left_out", {}).get(method)
    return reason


def check_source(prepared: Prepared, name: str) -> None:
    """Refuse another run that cannot lend a segmenter its masks, before any training.

    Raises
    ------
    RunError
        If it is no run, or of other data or splits; not where it has gone and nothing is left to
        make of its masks.
    """
    for seed in prepared.config.segmenter_seeds(name):
        folder = lender(prepared, name, seed)
        if folder is not None and not stands_by_itself(prepared, name, seed):
            other_run(prepared, folder, "masks")
