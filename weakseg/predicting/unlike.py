"""New images that look unlike the run's training images: told in the table and in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from weakseg.config import DataConfig
from weakseg.data.cases import Case
from weakseg.data.familiar import NOISE, read_familiar
from weakseg.data.looks import look_at_case
from weakseg.data.slices import volume_frame
from weakseg.errors import RunError, count
from weakseg.exporting.exported import is_exported
from weakseg.layout import images_file
from weakseg.progress import say

UNLIKE = "unlike_training"
"""Column of ``predictions.csv``; blank where an image looks as the training images do."""

DENOISE = "--denoise"
SMOOTHED = ", and is smoothed before the network sees it"


def _as_it_is(case: Case) -> Case:
    """What of a case is looked at: of slices the one in the middle of their volume."""
    case = replace(case, smooth_above=())
    if case.slice is None:
        return case
    return replace(case, slice=volume_frame(case.image).shape[2] // 2)


class Unlike:
    """Holds new images against what a run remembers of its training images.

    Parameters
    ----------
    run : Path
    data : DataConfig
        How the run's networks read images.
    noun : str
        What a new case is: image or volume. Where a network sees slices, their volumes count.
    smooths : bool
    option : str

    Attributes
    ----------
    smooths : bool
        Whether those that are noisier are smoothed before anything looks at them.
    option : str
        How that is asked for.
    kinds : dict
        File → in what it is unlike, of those that `tell` was told of.
    """

    def __init__(
        self,
        run: Path,
        data: DataConfig,
        noun: str,
        smooths: bool = False,
        option: str = DENOISE,
    ) -> None:
        path = self._path = images_file(run)
        self._data, self.smooths, self.option, self._noun = data, smooths, option, noun
        self._known = read_familiar(path) if path.exists() else None
        export = is_exported(run)
        self._anew = (
            "export the method again from its run, once any stage of that has written it anew"
            if export
            else "run any of its stages again, which writes it anew"
        )
        self._counts: Counter[str] = Counter()
        self.kinds: dict[str, list[str]] = {}
        self._unlike = self._seen = 0

    @property
    def noise_limits(self) -> tuple[float | None, ...]:
        """Noise of each modality beyond which an image is noisier than the run's training images.

        Raises
        ------
        RunError
            If the run does not tell.
        """
        limits = () if self._known is None else self._known.noise_limits
        if all(limit is None for limit in limits):
            raise RunError(
                f"The run does not tell how noisy its training {self._noun}s are, so that none can "
                "be smoothed to be like them.",
                where=str(self._path),
                expected=f"the noise of three training {self._noun}s or more",
                fix=f"{self._anew} where it is known, or leave {self.option} out",
            )
        return limits

    def tell(self, case: Case, row: dict[str, Any]) -> dict[str, Any]:
        """The row of ``predictions.csv`` of a case, with the column `UNLIKE`; it is not counted."""
        reasons = self._reasons(case)
        self.kinds[row["file"]] = list(reasons)
        return row | {UNLIKE: "; ".join(reasons.values())}

    def count(self, kinds: Sequence[str]) -> None:
        """Count an image by that in which it is unlike."""
        self._seen += 1
        self._unlike += bool(kinds)
        self._counts.update(kinds)

    def look(self, cases: Sequence[Case]) -> None:
        """Hold some cases against the run's, for `summary`."""
        for case in cases:
            self.count(list(self._reasons(case)))

    def _reasons(self, case: Case) -> dict[str, str]:
        if self._known is None:
            return {}
        reasons = self._known.unlike(look_at_case(_as_it_is(case), self._data), case.noun)
        if NOISE in reasons:
            reasons[NOISE] += SMOOTHED if self.smooths else self._not_smoothed
        return reasons

    @property
    def _not_smoothed(self) -> str:
        may = "a network may miss lesions that it would find"
        return f": {may}; {self.option} smooths such {self._noun}s"

    def say(self) -> None:
        """Warn in the terminal, with counts and reasons."""
        if self._known is None:
            say(
                f"the run does not tell what its training {self._noun}s look like, so that new "
                "ones are not held against them; any of its stages writes it anew"
            )
            return
        if told := self.summary():
            say(f"warning: {told}; the column {UNLIKE} of predictions.csv tells why")
        if why := self._known.why_no_limit:
            anew = f"; {self._anew}" if self._known.older else ""
            say(
                f"note: whether new {self._noun}s are noisier than the training {self._noun}s "
                f"cannot be told: {why}{anew}"
            )

    def summary(self) -> str:
        """How many images are unlike the run's, and in what; empty where none is."""
        if not self._unlike:
            return ""
        kinds = ", ".join(f"{n} of {what}" for what, n in self._counts.most_common())
        verb = "is" if self._unlike == 1 else "are"
        more = ""
        if self._counts[NOISE] and not self.smooths:
            more = f". {self.option} smooths those of more noise"
        return (
            f"{self._unlike} of {count(self._seen, self._noun)} {verb} unlike the run's training "
            f"{self._noun}s: {kinds}{more}. Masks of {self._noun}s unlike those that a network has "
            "learnt from may mean nothing"
        )
