"""What a layout and a published set are, and what they find: the contracts of this room.

A layout is a way in which pictures, masks and labels lie in folders; a set is one published
collection, which its own rules tell better than any layout. Both are records of plain functions in
a file of their own, which a registry lists. They read what is there and make an `Arrangement` of
it; what is written from it (``labels.csv``, an experiment, pictures) is not their affair.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg.importing.answers import Answers
from weakseg.importing.tree import Tree


@dataclass(frozen=True)
class Item:
    """One image, or one volume: a row of the manifest.

    Attributes
    ----------
    image : Path
        Absolute: a file of the user's. Relative: one that `Arrangement.export` writes, below the
        output folder.
    label : str
        Blank where the mask is to tell it, see `Arrangement.label_by_mask`.
    masks : tuple of Path
        All of them together are the truth; as `image`.
    patient, split : str
        Blank where they are not known.
    more : tuple of Path
        Further modalities on the same grid, of volumes.
    roi : Path, optional
        Region of interest of a volume, such as the brain.
    slice : str
        Which slice of a volume is meant, as a manifest has it; blank for the whole.
    extra : mapping of str to str
        Further columns, which weakseg leaves alone.
    """

    image: Path
    label: str
    masks: tuple[Path, ...] = ()
    patient: str = ""
    split: str = ""
    more: tuple[Path, ...] = ()
    roi: Path | None = None
    slice: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


Export = Callable[[Path, Callable[..., object]], None]
"""Writes the files that items name by relative paths, given the output folder and what is called
after each file, with 1 and ``of=`` the number of all."""


@dataclass(frozen=True)
class Arrangement:
    """What was found in a folder.

    Attributes
    ----------
    items : tuple of Item
    found : tuple of str
        What was recognised, a sentence each.
    settings : mapping of str to Any
        Keys of the experiment that the files ask for, such as ``data.mask_rule``.
    export : callable, optional
        Where images have to be written first, as from an ``.npz``.
    label_by_mask : (str, str), optional
        The labels of images without and with a lesion, where only masks tell them apart.
    labels_tell : bool
        Whether a usual name among the labels, such as 0, may be taken at its word; not where the
        labels are numbers of classes that nobody has named.
    instead : str, optional
        The command that reads these files, where this is not the one; there are no items then.
    """

    items: tuple[Item, ...]
    found: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    export: Export | None = None
    label_by_mask: tuple[str, str] | None = None
    labels_tell: bool = True
    instead: str | None = None


@dataclass(frozen=True)
class Layout:
    """A way in which files lie in folders.

    Attributes
    ----------
    name : str
        A word, for ``--layout``.
    title : str
        As in sentences: class folders.
    recognise : callable
        Whether the files of a tree lie so, by names and the heads of a few files.
    read : callable
        What there is, given the tree and who answers questions. What cannot be used is raised as
        a DataError.
    """

    name: str
    title: str
    recognise: Callable[[Tree], bool]
    read: Callable[[Tree, Answers], Arrangement]


@dataclass(frozen=True)
class PublishedSet:
    """A collection that somebody has published.

    Attributes
    ----------
    name : str
        A word, the command's: ``weakseg import NAME RAW``.
    title : str
    told : str
        A sentence for the help: what is expected in the folder.
    licence, citation, address : str
        As their owners want them; printed, and kept beside the output.
    read : callable
        As `Layout.read`.
    """

    name: str
    title: str
    told: str
    licence: str
    citation: str
    address: str
    read: Callable[[Tree, Answers], Arrangement]
