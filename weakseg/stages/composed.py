"""Masks of methods that are made of other methods: made as soon as these have made theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from weakseg.config import fingerprint
from weakseg.current import why_stale
from weakseg.layout import masks_folder, method_folder, threshold_file
from weakseg.masks.kept import read_thresholds
from weakseg.methods.base import Entry, Kind, Method
from weakseg.methods.find import KINDS, kind_of
from weakseg.methods.lesions import rows_version
from weakseg.methods.prepared import Prepared
from weakseg.methods.standing import why_not_standing
from weakseg.progress import say
from weakseg.shards import Shard
from weakseg.stages.base import Stage, perform
from weakseg.stages.scoring import part_files
from weakseg.stages.segment import Masks, OfSeed, Ready, segment_by, shard_of
from weakseg.stages.segmenter_masks import with_fitted
from weakseg.stages.shards import own_folder

Compose = Callable[[Prepared, str, int], tuple[Method, Entry]]
"""See `weakseg.methods.base.Kind.compose`."""


def composed_names(prepared: Prepared) -> list[str]:
    """The experiment's methods that are made of others, in the order in which they can be made."""
    kinds = [kind for kind in KINDS if kind.compose is not None]
    return [name for kind in kinds for name in kind.names(prepared.config)]


def segment_composed(
    prepared: Prepared, *, force: bool = False, tell: bool = False, quiet: bool = False
) -> dict[str, str]:
    """Masks of the test images by methods that are made of others, and their scores.

    Parameters
    ----------
    prepared : Prepared
    force : bool
        Make again what is up to date.
    tell : bool
        Say which are left out because a member has no masks; else they are left for later.
    quiet : bool
        Do not say which are up to date: the same command asks again, and says it then.

    Returns
    -------
    dict of str to str
        Of each that has masks the stage, and the key of what shards would have made of it.
    """
    made = {}
    for name in composed_names(prepared):
        kind = kind_of(prepared.config, name)
        members = kind.members(prepared.config, name)
        reasons = {m: why_not_standing(prepared, m) for m in members}
        lost = next((f"{m}: {why}" for m, why in reasons.items() if why is not None), None)
        if lost is None:
            perform(prepared.run, masks_of(prepared, kind, name), force=force, quiet=quiet)
            made[kind.stage(name)] = shards_key(prepared, name)
        elif tell:
            say(f"{name}: left out, {lost}")
    return made


def shard_composed(prepared: Prepared, shard: Shard, *, force: bool = False) -> None:
    """A part of the masks of those whose members are fitted, for `segment_composed` to join.

    Parameters
    ----------
    prepared : Prepared
        Held as this shard.
    shard : Shard
    force : bool
        Make again what is up to date.
    """
    prepared = with_fitted(prepared)
    here = masks_folder(own_folder(prepared.run.folder, shard))
    for name in composed_names(prepared):
        kind = kind_of(prepared.config, name)
        members = kind.members(prepared.config, name)
        if any(m not in prepared.fitted and why_not_standing(prepared, m) for m in members):
            continue
        stage = masks_of(prepared, kind, name)
        ready = all(m not in prepared.fitted for m in members)
        if ready and why_stale(prepared.run, stage.name, stage.key) is None and not force:
            continue
        run, of_shard = shard_of(
            prepared, _masks(prepared, name), shard, shards_key(prepared, name)
        )
        perform(run, of_shard, force=force)
        prepared = replace(prepared, fitted={**prepared.fitted, name: here})


def shards_key(prepared: Prepared, name: str) -> str:
    """Fingerprint of the masks that shards make: of its members' thresholds, and their networks."""
    config, run = prepared.config, prepared.run
    kind, stages = kind_of(config, name), run.record.get("stages", {})
    needed = set().union(*(kind.stands_on(config, name, s) for s in kind.seeds(config, name)))
    made_of = [stages.get(s, {}).get("outputs") for s in sorted(needed)]
    chosen = []
    for member in _all_members(prepared, name):
        path = threshold_file(prepared.thresholds_in(member), member)
        chosen.append(read_thresholds(path) if path.exists() else {})
    key = masks_of(prepared, kind, name).key
    return fingerprint("masks in shards", 1, key, made_of, chosen)


def _all_members(prepared: Prepared, name: str) -> list[str]:
    """The methods that one is made of, and what these are made of."""
    members = kind_of(prepared.config, name).members(prepared.config, name)
    return [m for member in members for m in (member, *_all_members(prepared, member))]


def masks_of(prepared: Prepared, kind: Kind, name: str) -> Stage:
    """The masks of one of them."""
    run, config = prepared.run.folder, prepared.config
    stage, settings = kind.stage(name), kind.settings(config, name)
    members = [kind_of(config, m).stage(m) for m in kind.members(config, name)]
    # How sure the members are is not in their masks.
    needed = [kind.stands_on(config, name, seed) for seed in kind.seeds(config, name)]
    return Stage(
        stage,
        fingerprint(stage, 2, prepared.key, settings, *rows_version(prepared.cases.cases)),
        (method_folder(masks_folder(run), name), *part_files(prepared, kind.part(name))),
        lambda _: {"data": prepared.key, "asked": settings} | _write(prepared, name),
        what=f"masks of {name}",
        inputs=(*dict.fromkeys(members), *sorted(set().union(*needed))),
    )


def _write(prepared: Prepared, name: str) -> dict[str, Any]:
    """Write masks and their scores; what the record says of them."""
    lost: dict[int, str] = {}
    segment_by(prepared, _masks(prepared, name, lost), shards_key(prepared, name))
    why = "; ".join(dict.fromkeys(lost.values()))
    if why:
        say(f"{name}: left out, {why}")
    return {"left_out": {name: why} if why else {}}


def _masks(prepared: Prepared, name: str, lost: dict[int, str] | None = None) -> Masks:
    """What makes them; ``lost`` gets the seeds of which a member has no masks, and why."""
    kind = kind_of(prepared.config, name)
    seeds, compose = kind.seeds(prepared.config, name), kind.compose
    assert compose is not None

    def made() -> Iterator[OfSeed]:
        for seed in seeds:
            try:
                method, entry = compose(prepared, name, seed)
            except LookupError as e:
                if lost is not None:
                    lost[seed] = str(e)
                continue
            yield OfSeed(seed, entry, partial(Ready, method, method.predict_each))

    return Masks(name, kind.part(name), seeds, made)
