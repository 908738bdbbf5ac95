"""Which kinds of network count in their mean, as the labels of the validation images choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from weakseg.methods.network import BY_KIND, ON_LABELS
from weakseg.methods.segmenter_networks import Networks
from weakseg.progress import say
from weakseg.scores.on_labels import OnLabels

LABELS = "labels"
"""The value of the setting ``weighting`` that asks for it."""

ALL = "all kinds"


def preferred_kinds(
    name: str, networks: Networks, chosen: Callable[[Networks], dict[str, Any]]
) -> tuple[Networks, dict[str, Any]]:
    """All networks, or those of one kind alone: whose masks the validation labels prefer.

    Parameters
    ----------
    name : str
        Of the segmenter, for messages.
    networks : Networks
        Of more than one kind.
    chosen : callable
        Networks → their entry of ``threshold.json``, cuts chosen on labels among it.

    Returns
    -------
    networks : Networks
        Those of other kinds count nothing.
    threshold : dict
        Theirs, with what labels said of every choice. Of equally good ones all networks are
        taken, then the kind that comes first; all where labels say nothing, being all alike.
    """
    tried = {what: (of, chosen(of)) for what, of in _choices(networks).items()}
    said = {
        what: OnLabels(**threshold[ON_LABELS])
        for what, (_, threshold) in tried.items()
        if ON_LABELS in threshold
    }
    if len(said) < len(tried):
        return tried[ALL]
    best = max(said, key=lambda what: said[what].youden)
    for what, found in said.items():
        say(f"masks of {name}: {what}: {found.told}" + (", chosen" if what == best else ""))
    of, threshold = tried[best]
    threshold[BY_KIND] = {what: tried[what][1][ON_LABELS] for what in said}
    threshold["chosen_on"] += "; kinds of network on validation labels"
    return of, threshold


def _choices(networks: Networks) -> dict[str, Networks]:
    """All of them, and each kind alone, by name."""
    kinds = [str(held["settings"]["arch"]) for held in networks.held]
    alone = dict[str, Networks]()
    for kind in dict.fromkeys(kinds):
        share = round(1 / kinds.count(kind), 6)
        alone[kind] = networks.weighed([share if k == kind else 0.0 for k in kinds])
    return {ALL: networks, **alone} if len(alone) > 1 else {ALL: networks}
