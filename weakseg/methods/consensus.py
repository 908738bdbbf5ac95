"""Masks that several methods of a run agree on: a vote of their masks, or of how sure they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations
from math import lcm
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np

from weakseg.config import (
    Config,
    ConsensusConfig,
    clean_up_settings,
    config_of_run,
    fingerprint,
)
from weakseg.data.cases import Case
from weakseg.errors import RunError, UserError
from weakseg.layout import masks_folder, masks_stage, threshold_file
from weakseg.masks.kept import read_thresholds
from weakseg.masks.thresholds import apply_threshold
from weakseg.methods.base import (
    FOUNDATION,
    SUPERVISED,
    Entries,
    Entry,
    Kind,
    KindOf,
    Method,
    Prediction,
    SourceKey,
    seed_of,
)
from weakseg.methods.masks_seen import MasksSeen, masks_seen
from weakseg.methods.prepared import Prepared
from weakseg.scores import dice

CONSENSUS = "consensus"
"""The kind in ``per_case.csv``, unless a member is trained on true masks: then it is supervised.
One that stands on masks seen elsewhere makes it a method of that kind."""

COMPARE_FIRST = "run `weakseg compare CONFIG` first"

MEMBERS = "members"
"""Key of ``threshold.json`` that names the methods that vote."""


@dataclass(frozen=True)
class ConsensusMethod(Method):
    """What several methods agree on.

    Attributes
    ----------
    name, seeds, config
        See `weakseg.methods.base.Method`.
    voters : tuple of Method
        Ready for the same cases.
    settings : ConsensusConfig
    seen : MasksSeen
        The true masks that had a part in any of them.
    """

    name: str
    seeds: tuple[int, ...]
    config: Config
    voters: tuple[Method, ...]
    settings: ConsensusConfig
    seen: MasksSeen

    @property
    def kind(self) -> str:
        kinds = {v.kind for v in self.voters}
        return next((k for k in (SUPERVISED, FOUNDATION) if k in kinds), CONSENSUS)

    @property
    def masks_seen(self) -> int:
        return self.seen.count

    @property
    def chosen_on(self) -> str:
        of = ", ".join(v.name for v in self.voters)
        return f"nothing: {self.settings.vote} of {of}{self.seen.told}"

    @property
    def dims(self) -> int:
        return self.voters[0].dims

    @property
    def at_once(self) -> int:
        # So that each member gets its cases in the same company as by itself.
        return lcm(*(v.at_once for v in self.voters))

    @property
    def threshold(self) -> float:
        """What the map must exceed."""
        return _exceeded(self.settings)

    @property
    def looks_beside(self) -> bool:
        return any(v.looks_beside for v in self.voters)

    def predict_each(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        return self.predict_all(cases)  # its voters take as many at once as they can

    def predict_all(self, cases: Sequence[Case]) -> Iterator[Prediction]:
        said = [v.predict_each(cases) for v in self.voters]
        for of_case in zip(*said, strict=True):
            yield self.of_predictions(of_case)

    def of_predictions(self, said: Sequence[Prediction]) -> Prediction:
        """What it makes of its voters' predictions of one case, in their order.

        Its map is the share of the voters who mark a place, or how sure they are on average; one
        whose gate has emptied its mask is not sure of anything.
        """
        if self.settings.vote == "mean":
            sure = [
                np.zeros(p.mask.shape, np.float32) if p.gated else v.confidence(p)
                for v, p in zip(self.voters, said, strict=True)
            ]
        else:
            sure = [p.mask for p in said]
        agreed = np.asarray(np.mean(sure, axis=0, dtype=np.float32))
        mask = apply_threshold(agreed, self.threshold)
        probabilities = [p.probability for p in said if p.probability is not None]
        pairs = [dice(a.mask, b.mask) for a, b in combinations(said, 2)]
        return Prediction(
            mask,
            agreed,
            round(float(np.mean(probabilities)), 6) if probabilities else None,
            flat=all(p.flat for p in said),
            gated=not mask.any() and any(p.gated for p in said),
            notes={"agreement": round(float(np.mean(pairs)), 6)},
        )

    def confidence(self, prediction: Prediction) -> np.ndarray:
        return prediction.map

    def entry(self) -> Entry:
        """Its entry in ``threshold.json``."""
        return {
            "kind": self.kind,
            "rule": self.settings.vote,
            MEMBERS: [v.name for v in self.voters],
            "threshold": self.threshold,
            "scale": "probability",
            "chosen_on": self.chosen_on,
            **self.seen.to_json(),
            "gate": 0.0,
            "split": "test",
            "upper_bound": False,
        }


def _exceeded(settings: ConsensusConfig) -> float:
    """What the share of the voters, or how sure they are on average, must exceed."""
    few = {"majority": 0.5, "all": 1 - 0.5 / len(settings.methods), "any": 0.0}
    return few.get(settings.vote, settings.at)


def _entry(prepared: Prepared, kind: Kind, method: str, seed: int) -> tuple[int, Entry]:
    """Under which seed a member's masks stand, and its entry; a LookupError where it has none."""
    path = threshold_file(prepared.thresholds_in(method), method)
    at = seed_of(kind, prepared.config, method, seed)
    entry = read_thresholds(path).get(f"seed-{at}") if path.exists() else None
    if entry is None:
        raise LookupError(f"{method} has no masks")
    return at, entry


def _of_run(
    kind_of: KindOf, prepared: Prepared, name: str, seed: int, whole: bool
) -> ConsensusMethod:
    config = prepared.config
    settings = config.consensus[name]
    voters, seen = [], []
    for member in settings.methods:
        kind = kind_of(config, member)
        at, entry = _entry(prepared, kind, member, seed)
        voters.append(kind.of_run(prepared, member, at, entry, whole))
        seen.append(masks_seen(entry))
    return ConsensusMethod(name, (seed,), config, tuple(voters), settings, reduce(or_, seen))


def _compose(
    kind_of: KindOf, prepared: Prepared, name: str, seed: int
) -> tuple[ConsensusMethod, Entry]:
    method = _of_run(kind_of, prepared, name, seed, whole=True)
    return method, method.entry()


def _load(
    kind_of: KindOf,
    folder: Path,
    config: Config,
    name: str,
    entries: Entries,
    seed: int | None,
    device: str,
) -> ConsensusMethod:
    """A consensus of a run; see `weakseg.methods.find.load_method`."""
    made = [int(s.removeprefix("seed-")) for s in entries[name]]
    if seed is not None and seed not in made:
        raise UserError(
            f"The run has no masks of seed {seed} by {name}.",
            where="--seed",
            fix=f"choose one of: {', '.join(map(str, made))}",
        )
    seed = made[0] if seed is None else seed
    settings, entry = config.consensus[name], entries[name][f"seed-{seed}"]
    voters = []
    for member in settings.methods:
        if member not in entries:
            raise RunError(
                f"{member}, which {name} is made of, has no masks.",
                where=str(folder),
                fix=COMPARE_FIRST,
            )
        kind = kind_of(config, member)
        at = seed_of(kind, config, member, seed)
        # A mean of the networks of all seeds is asked for without one.
        one = at if len(kind.seeds(config, member)) > 1 else None
        own = kind.config_of(folder)
        voters.append(kind.load(folder, own, member, entries, one, device))
    return ConsensusMethod(name, (seed,), config, tuple(voters), settings, masks_seen(entry))


def _made_of(
    kind_of: KindOf,
    prepared: Prepared,
    name: str,
    seed: int,
    entry: Entry,
    source_key: SourceKey | None,
) -> tuple[Any, Entry]:
    config, run = prepared.config, prepared.run.folder
    settings = config.consensus[name]
    path, made_of = threshold_file(masks_folder(run), name), []
    wanted = (settings.methods, settings.vote, _exceeded(settings))
    if (entry.get(MEMBERS), entry["rule"], entry["threshold"]) != wanted:
        raise RunError(
            f"The masks of {name} were made by other methods, or by another vote.",
            where=str(path),
            fix=COMPARE_FIRST,
        )
    for member in settings.methods:
        kind = kind_of(config, member)
        try:
            at, of_member = _entry(prepared, kind, member, seed)
        except LookupError as e:
            found = f"{e}, though {name} was made of them"
            raise RunError(
                "Masks are missing.", where=str(path), found=found, fix=COMPARE_FIRST
            ) from None
        made_of.append(kind.made_of(prepared, member, at, of_member, source_key))
    return made_of, dict(entry)


def _over_members(
    kind_of: KindOf, what: str, config: Config, name: str, seed: int
) -> Iterator[str]:
    """What the members' kinds say of them under ``what``, a function of their contract."""
    for member in config.consensus[name].methods:
        kind = kind_of(config, member)
        yield from getattr(kind, what)(config, member, seed_of(kind, config, member, seed))


def _seeds(kind_of: KindOf, config: Config, name: str) -> list[int]:
    members = config.consensus[name].methods
    return list(dict.fromkeys(s for m in members for s in kind_of(config, m).seeds(config, m)))


def _spoken(config: Config, name: str) -> str:
    return f"the agreement of {len(config.consensus[name].methods)} methods ({name})"


def consensus_kind(kind_of: KindOf) -> Kind:
    """The kind of what several methods agree on."""
    return Kind(
        kinds=frozenset({CONSENSUS, SUPERVISED, FOUNDATION}),
        config_of=config_of_run,
        names=lambda config: list(config.consensus),
        seeds=partial(_seeds, kind_of),
        stage=masks_stage,
        part=lambda name: f"consensus-{name}",
        settings=lambda config, name: fingerprint(
            config.consensus[name], *clean_up_settings(config)
        ),
        load=partial(_load, kind_of),
        of_run=lambda prepared, name, seed, _, whole: _of_run(kind_of, prepared, name, seed, whole),
        made_of=partial(_made_of, kind_of),
        spoken=_spoken,
        stands_on=lambda *of: set(_over_members(kind_of, "stands_on", *of)),
        inputs=lambda *of: tuple(dict.fromkeys(_over_members(kind_of, "inputs", *of))),
        members=lambda config, name: config.consensus[name].methods,
        compose=partial(_compose, kind_of),
    )
