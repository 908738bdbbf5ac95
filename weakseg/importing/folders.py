"""What the folders of images tell: the class, the patient, and the published split."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from weakseg.data.scan_names import is_mask_folder
from weakseg.errors import count
from weakseg.importing.answers import Answers, Question
from weakseg.importing.base import Item
from weakseg.importing.tree import folders_of, listed, stem_of

CLASS_NAMES = frozenset(
    (
        *("benign", "malignant", "cancer", "tumor", "tumour", "lesion", "abnormal", "positive"),
        *("yes", "glioma", "meningioma", "pituitary", "pneumonia", "covid", "covid19", "polyp"),
        *("polyps", "nodule", "mass", "bacteria", "virus", "tuberculosis", "melanoma", "nevus"),
    )
)
"""Names of folders, see `plain`, that are classes beyond doubt, as are those of healthy images."""
VALIDATION_SHARE = 0.15
"""Of the training patients, where a published split has no validation images."""
FEW, MANY = 6, 40
"""So many folders are classes where nothing speaks against it; more than many are patients."""

_IMAGE_FOLDER = re.compile(
    r"(?:images?|imgs?|pictures?|scans?|inputs?|jpe?gs?|pngs?|tiffs?|.*[ _.-](?:images?|inputs?))$",
    re.IGNORECASE,
)
_SPLIT = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<val>val(?:id(?:ation)?)?)|(?P<test>test(?:ing)?))"
    r"(?:[ _-]?(?:set|data|images?|cases))?$",
    re.IGNORECASE,
)
_PERSON = re.compile(r"((?:patient|pat|subject|subj|sub|case)[ _-]?\d+)(?=[ _.-])", re.IGNORECASE)


@dataclass(frozen=True)
class Place:
    """What the folders of an image tell; blank what they do not."""

    label: str = ""
    patient: str = ""
    split: str = ""


def places_of(files: Sequence[str], answers: Answers) -> dict[str, Place]:
    """What the folders of images tell.

    Folders that all have in common, and those called ``images`` and the like, tell nothing.

    Parameters
    ----------
    files : sequence of str
        Images without masks, as `Tree.files` names them.
    answers : Answers
        Is asked whether folders are classes or patients, where their names leave it open.
    """
    from weakseg.data.labels import HEALTHY_NAMES, plain

    telling = {f: [n for n in folders_of(f) if not _tells_nothing(n)] for f in files}
    splits = {f: next(filter(None, map(split_of, folders_of(f))), "") for f in files}
    telling = {f: [n for n in names if not split_of(n)] for f, names in telling.items()}
    depth = max(map(len, telling.values()), default=0)
    roles: dict[int, str] = {}
    for level in range(depth):
        names = Counter(t[level] for t in telling.values() if len(t) > level)
        if len(names) > 1 or (sum(names.values()) < len(files)):
            roles[level] = _role(names, level, answers)
        elif depth == 1 and next(iter(names)) and plain(next(iter(names))) in HEALTHY_NAMES:
            roles[level] = "classes"
    classes = [k for k, role in roles.items() if role == "classes"]
    patients = [k for k, role in roles.items() if role == "patients"]
    places = {
        f: Place(_at(names, classes), _at(names, patients), splits[f])
        for f, names in telling.items()
    }
    return places if patients else _people_by_name(places, answers)


def split_of(folder: str) -> Literal["train", "val", "test", ""]:
    """The split that a folder's name tells, blank for other names."""
    match = _SPLIT.match(folder)
    return match.lastgroup or "" if match else ""  # type: ignore[return-value]


def is_image_folder(name: str) -> bool:
    """Whether a folder is called as one of images, beside which there may be one of masks."""
    return _IMAGE_FOLDER.match(name) is not None


def _tells_nothing(folder: str) -> bool:
    return is_image_folder(folder) or is_mask_folder(folder)


def _at(names: Sequence[str], levels: Sequence[int]) -> str:
    return next((names[k] for k in levels if k < len(names)), "")


def _role(names: Counter[str], level: int, answers: Answers) -> str:
    """Whether the folders of a level are classes or patients."""
    from weakseg.data.labels import HEALTHY_NAMES, plain

    folder_names = HEALTHY_NAMES | CLASS_NAMES
    if any(plain(n) in folder_names for n in names):
        return "classes"
    numbers = [re.findall(r"\d+", n) for n in names]
    numbered = sum(map(bool, numbers)) >= 0.8 * len(names)
    longest = max((len(d) for digits in numbers for d in digits), default=0)
    if numbered and (longest >= 3 or len(names) > FEW):
        return "patients"
    if not numbered and len(names) <= FEW:
        return "classes"
    likely = "patients" if len(names) > MANY else "classes"
    return answers.ask(
        Question(
            "folders" if level == 0 else f"folders{level + 1}",
            f"Are the {len(names)} folders {listed(names, 4)} classes or patients?",
            likely,
            ("classes", "patients"),
        )
    )


def _people_by_name(found: dict[str, Place], answers: Answers) -> dict[str, Place]:
    """With patients from names such as ``patient012_slice3``, where nearly all have them."""
    people = {f: m[1] for f in found if (m := _PERSON.match(stem_of(f)))}
    if len(people) < 0.9 * len(found) or len(set(people.values())) in (0, len(found)):
        return found
    answer = answers.ask(
        Question(
            "patients",
            "Do the files' names begin with the patient?",
            "yes",
            ("yes", "no"),
            f"such as {listed(dict.fromkeys(people.values()), 3)}",
        )
    )
    if answer == "no":
        return found
    return {f: replace(place, patient=people.get(f, "")) for f, place in found.items()}


def settle_split(items: Sequence[Item], answers: Answers) -> tuple[Item, ...]:
    """The items with the splits that the experiment will have.

    Where a set is published in three parts they are kept; where validation images lack, patients
    are dealt out anew unless the answer is otherwise. The published part stays in a column.
    """
    parts = {i.split for i in items} - {""}
    if not parts:
        return tuple(items)
    noted = [
        replace(i, extra={**i.extra, "published_split": i.split}) if i.split else i for i in items
    ]
    if not {"train", "test"} <= parts or any(not i.split for i in items):
        return tuple(replace(i, split="") for i in noted)
    sides = {(i.patient, i.split) for i in items}
    shared = len(sides) - len({p for p, _ in sides})
    if not all(i.patient for i in items):
        good, why = "val" in parts, "whether its parts share patients is not known"
    else:
        good = shared == 0
        why = (
            "its parts share no patient" if good else f"{count(shared, 'patient')} in several parts"
        )
    if "val" not in parts:
        why += "; it has no validation images: some training patients would become such"
    answer = answers.ask(
        Question(
            "split",
            "Keep the published split, or deal the patients out anew?",
            "published" if good else "anew",
            ("published", "anew"),
            why,
        )
    )
    if answer == "anew":
        return tuple(replace(i, split="") for i in noted)
    return with_validation(noted)


def with_validation(items: Sequence[Item]) -> tuple[Item, ...]:
    """Items of a published split without validation images: some training patients become such.

    Which, a hash of their names says, so that it is the same everywhere.
    """
    if any(i.split == "val" for i in items):
        return tuple(items)
    return tuple(replace(i, split="val") if i.split == "train" and _chosen(i) else i for i in items)


def _chosen(item: Item) -> bool:
    name = item.patient or item.image.name
    digest = hashlib.blake2b(name.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") < VALIDATION_SHARE * 2**32
