"""The answers of heatmap-filtered retraining in words: the verdict first, then its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from weakseg.report import words
from weakseg.scores.conclusions import MARGIN
from weakseg.scores.retraining_effects import CHANCE

QUESTIONS = {
    "tumour": "Do predictions depend mainly on the lesion?",
    "dark": "Do the dark regions contribute?",
    "control": "Does the heatmap keep more of the evidence than other filters of equal area?",
}
"""Question of ``scores/filtered.json`` → its heading."""
FILLS = {"zero": "zero", "mean": "the training mean", "linear": "imputation"}
"""What takes the place of removed pixels → how the page calls it."""
_CONTROLS = {
    "random": "random pixels",
    "gaussian": "a centred Gaussian",
    "shuffled": "another image's heatmap",
    "truth": "the true mask, grown or shrunk",
}
_HARD = {
    "heat": "the heatmap's region",
    "random": "random pixels, equal area",
    "gaussian": "a centred Gaussian, equal area",
    "shuffled": "another image's heatmap, equal area",
    "truth": "the true mask, equal area",
}
_TOP = {
    "heat": "the hottest {}",
    "random": "{} at random",
    "gaussian": "the central {}",
    "shuffled": "the hottest {} of another image",
    "truth": "the {} nearest the lesion",
}
_TRUTH = {"truth": "the lesion", "box": "the lesion's box"}
_TOO_FEW = "the test images are of too few patients for an interval that can be trusted"


def condition_words(row: Mapping[Any, Any], name_fill: bool = False) -> str:
    """A condition in plain words.

    Parameters
    ----------
    row : mapping
        With ``source``, ``size``, ``side`` and ``fill`` of ``scores/filtered.csv``.
    name_fill : bool, optional
        Whether to say what takes the place of the rest.
    """
    source, size = str(row["source"]), str(row["size"])
    if source == "raw":
        return "the whole image"
    if size == "own":
        marked = _TRUTH.get(source, source)
    elif size.startswith("top"):
        marked = _TOP.get(source, source + " {}").format(f"{size[3:]}\N{NO-BREAK SPACE}%")
    else:
        marked = _HARD.get(source, source) + (", softly" if size == "soft" else "")
    if row["fill"] == "shape":
        return f"shape alone of {marked}"
    said = f"only {marked}" if row["side"] == "keep" else f"all but {marked}"
    return f"{said}; rest: {FILLS.get(str(row['fill']), row['fill'])}" if name_fill else said


def answered(answers: Mapping[str, Any], table: pd.DataFrame) -> list[dict[str, Any]]:
    """Every question of a run with its answer.

    Parameters
    ----------
    answers : mapping
        ``scores/filtered.json``.
    table : DataFrame
        ``scores/filtered.csv``: what the original network says of the same images.

    Returns
    -------
    list of dict
        ``question``, ``heading``, ``size``, ``fill``, ``control``, ``verdict``, ``reason``,
        ``sentence`` and ``caution`` (None where there is none), in the order of the questions.
        Sizes and fills are named in a sentence where several were tried; the first of a question
        is its headline.
    """
    questions = [q for q in answers.get("questions", []) if q["question"] in QUESTIONS]
    fills = {q["fill"] for q in questions}
    sizes = {q["size"] for q in questions if "size" in q}
    speak = {"tumour": _tumour, "dark": _dark, "control": _control}
    answers_found = []
    for q in questions:
        how = [_size_words(q["size"])] if len(sizes) > 1 and "size" in q else []
        how += [f"filled with {FILLS.get(q['fill'], q['fill'])}"] if len(fills) > 1 else []
        start, rest, caution = speak[q["question"]](q, table)
        details = f" ({', '.join(how)})" if how else ""
        answers_found.append(
            {
                "question": q["question"],
                "heading": QUESTIONS[q["question"]],
                **{k: q.get(k) for k in ("size", "fill", "control", "verdict", "reason")},
                "sentence": f"{start}{details}: {rest}",
                "caution": caution,
            }
        )
    return answers_found


def _size_words(size: str) -> str:
    if size.startswith("top"):
        return f"{size[3:]}\N{NO-BREAK SPACE}% of each image"
    return f"{size} filter"


def _tumour(q: Mapping[str, Any], table: pd.DataFrame) -> tuple[str, str, str | None]:
    share = q["share_lost"]
    low, high = (None if share[k] is None else 100 * share[k] for k in ("low", "high"))
    loss = f"{words.percent(share['value'])} {words.interval(low, high, 0)}".strip()
    fall = f"AUC {words.number(q['raw']['value'])} → {_auc(q['removed'])}"
    start = {"yes": "Yes", "no": "No"}.get(q["verdict"], "Cannot be told")
    if q["verdict"] == "yes":
        said = (
            f"without the lesion a freshly trained network loses {loss} of its lead over chance "
            f"({fall})."
        )
    elif q["verdict"] == "no":
        said = (
            "a fresh network can do without it. Without the lesion it loses less than half of its "
            f"lead over chance, {loss} ({fall})."
        )
    elif q["reason"] == "chance":
        said = (
            "on the whole images a fresh network is not clearly better than chance, so that there "
            f"is nothing to lose (AUC {_auc(q['raw'])}; without the lesion {_auc(q['removed'])})."
        )
    elif q["reason"] == "shape":
        said = (
            f"without the lesion a freshly trained network loses only {loss} of its lead over "
            f"chance ({fall}), but it may go by the hole that the lesion left."
        )
    else:
        why = _TOO_FEW if q["reason"] == "too few" else "one half lies within that interval"
        said = (
            f"without the lesion a freshly trained network loses {loss} of its lead over chance "
            f"({fall}), and {why}."
        )
    if q.get("alone"):
        said += f" The lesion alone reaches an AUC of {_auc(q['alone'])}."
    before = original_auc(table, "raw")
    after = original_auc(table, f"truth-remove-{q['fill']}")
    if before and after:
        said += (
            f" The original network, which was never trained on such images, goes from "
            f"{words.number(before['value'])} to {_auc(after)} on them."
        )
    if not tells(q.get("shape")):
        return start, said, None
    caution = (
        f"The true mask's shape alone, without a pixel of the image, reaches an AUC of "
        f"{_auc(q['shape'])}: its outline tells something of the class. A network without the "
        "lesion may still go by the hole that it left, and one with the lesion alone by its rim."
    )
    return start, said, caution


def _dark(q: Mapping[str, Any], _table: pd.DataFrame) -> tuple[str, str, str | None]:
    said = (
        "a fresh network that sees only what the heatmap leaves dark reaches an AUC of "
        f"{_auc(q['dark'])}"
    )
    shape, beyond = q.get("shape"), q.get("beyond_shape")
    if shape and beyond:
        said += (
            f", one that sees the mask's shape alone {_auc(shape)}; the difference is "
            f"{difference(beyond)}"
        )
    start = {"yes": "Yes", "no": "No"}.get(q["verdict"], "Cannot be told")
    why = {
        "beyond shape": "",
        "no control": " The mask's shape was not tried alone, and may have told it.",
        "chance": f" That is chance, or less than {MARGIN:g} above it.",
        "only shape": f" What the dark pixels add to the shape is less than {MARGIN:g}.",
        "shape": f" That even the whole image (AUC {_auc(q['raw'])}) tells clearly more than the "
        f"shape, by {MARGIN:g} or more, is not certain: there may be nothing to add.",
        "below chance": " That is below chance: it learnt something else than it was tested on.",
        "too few": f" But {_TOO_FEW}.",
        "interval": " The intervals are too wide for a yes or a no.",
    }.get(str(q["reason"]), "")
    return start, f"{said}.{why}", None


def _control(q: Mapping[str, Any], _table: pd.DataFrame) -> tuple[str, str, str | None]:
    other = _CONTROLS.get(q["control"], q["control"])
    start = {
        "more": f"More than {other}",
        "less": f"Less than {other}",
        "as much": f"As much as {other}",
    }.get(q["verdict"], f"Cannot be told for {other}")
    said = f"AUC {_auc(q['heat'])} against {_auc(q['other'])}, difference {difference(q['lead'])}"
    if q["verdict"] == "as much":
        said += f", all of it within {MARGIN:g}"
    elif q["reason"] == "too few":
        said += f"; {_TOO_FEW}"
    if not tells(q.get("shape")):
        return start, f"{said}.", None
    soft = " soft" if q.get("size") == "soft" else ""
    caution = (
        f"The heatmap's{soft} mask is drawn by a network that has seen the image, so that its very "
        f"shape hands over that network's verdict: shape alone gives an AUC of {_auc(q['shape'])}. "
        + (
            "Filters of the same area hand over a part of it, too: the area itself."
            if q.get("size") in ("hard", "soft")
            else "A lead over filters that do not know the image may be no more than that."
        )
    )
    return start, f"{said}.", caution


def original_auc(table: pd.DataFrame, condition: str) -> dict[str, Any] | None:
    """AUC of the network that made the heatmaps, on the images of a condition."""
    rows = table[(table["condition"] == condition) & (table["network"] == "original")]
    if rows.empty:
        return None
    row = rows.iloc[0]
    return {"value": row["auc"], "low": row["auc_low"], "high": row["auc_high"]}


def tells(interval: Mapping[str, Any] | None) -> bool:
    """Whether an AUC lies above chance with all of its interval."""
    return interval is not None and interval["low"] is not None and interval["low"] > CHANCE


def difference(interval: Mapping[str, Any]) -> str:
    """A difference with its sign and interval."""
    ends = words.interval(interval["low"], interval["high"])
    return f"{words.signed(interval['value'])} {ends}".strip()


def grouped(said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers by question: ``heading``, ``sentences`` and ``cautions``, each caution once."""
    groups = []
    for question, heading in QUESTIONS.items():
        own = [s for s in said if s["question"] == question]
        if own:
            groups.append(
                {
                    "question": question,
                    "heading": heading,
                    "sentences": [s["sentence"] for s in own],
                    "cautions": list(dict.fromkeys(s["caution"] for s in own if s["caution"])),
                }
            )
    return groups


def _auc(interval: Mapping[str, Any]) -> str:
    return words.with_interval(interval["value"], interval["low"], interval["high"])
