"""Masks of methods that are made of other methods: made as soon as these have made theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from weakseg.config import fingerprint
from weakseg.data.cases import file_by_file
from weakseg.layout import masks_folder, method_folder
from weakseg.methods.base import Entry, Kind, Method
from weakseg.methods.find import KINDS, kind_of
from weakseg.methods.lesions import rows_version
from weakseg.methods.prepared import Prepared
from weakseg.methods.standing import why_not_standing
from weakseg.progress import say
from weakseg.stages.base import Stage, perform
from weakseg.stages.scoring import part_files
from weakseg.stages.segment import OfSeed, segment_by

Compose = Callable[[Prepared, str, int], tuple[Method, Entry]]
"""See `weakseg.methods.base.Kind.compose`."""


def composed_names(prepared: Prepared) -> list[str]:
    """The experiment's methods that are made of others, in the order in which they can be made."""
    kinds = [kind for kind in KINDS if kind.compose is not None]
    return [name for kind in kinds for name in kind.names(prepared.config)]


def segment_composed(prepared: Prepared, *, force: bool = False, tell: bool = False) -> None:
    """Masks of the test images by methods that are made of others, and their scores.

    Parameters
    ----------
    prepared : Prepared
    force : bool
        Make again what is up to date.
    tell : bool
        Say which are left out because a member has no masks; else they are left for later.
    """
    for name in composed_names(prepared):
        kind = kind_of(prepared.config, name)
        members = kind.members(prepared.config, name)
        reasons = {m: why_not_standing(prepared, m) for m in members}
        lost = next((f"{m}: {why}" for m, why in reasons.items() if why is not None), None)
        if lost is None:
            perform(prepared.run, masks_of(prepared, kind, name), force=force)
        elif tell:
            say(f"{name}: left out, {lost}")


def masks_of(prepared: Prepared, kind: Kind, name: str) -> Stage:
    """The masks of one of them."""
    run, config = prepared.run.folder, prepared.config
    stage, settings, compose = kind.stage(name), kind.settings(config, name), kind.compose
    assert compose is not None
    members = [kind_of(config, m).stage(m) for m in kind.members(config, name)]
    # How sure the members are is not in their masks.
    needed = [kind.stands_on(config, name, seed) for seed in kind.seeds(config, name)]
    return Stage(
        stage,
        fingerprint(stage, 2, prepared.key, settings, *rows_version(prepared.cases.cases)),
        (method_folder(masks_folder(run), name), *part_files(prepared, kind.part(name))),
        lambda _: {"data": prepared.key, "asked": settings} | _write(prepared, kind, name, compose),
        what=f"masks of {name}",
        inputs=(*dict.fromkeys(members), *sorted(set().union(*needed))),
    )


def _write(prepared: Prepared, kind: Kind, name: str, compose: Compose) -> dict[str, Any]:
    """Write masks and their scores; what the record says of them."""
    test, seeds = file_by_file(prepared.cases.of("test")), kind.seeds(prepared.config, name)
    lost: dict[int, str] = {}

    def composed() -> Iterator[OfSeed]:
        for seed in seeds:
            try:
                method, entry = compose(prepared, name, seed)
            except LookupError as e:
                lost[seed] = str(e)
                continue
            yield seed, entry, method, zip(test, method.predict_each(test), strict=True)

    segment_by(prepared, name, kind.part(name), len(seeds), composed())
    why = "; ".join(dict.fromkeys(lost.values()))
    if why:
        say(f"{name}: left out, {why}")
    return {"left_out": {name: why} if why else {}}
