"""A table that is nearly a manifest: columns for image and label, and the images below."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from weakseg.config import SPLITS
from weakseg.data.csv_text import AS_TEXT, why_no_text
from weakseg.data.table import Row, Table, read_table
from weakseg.errors import ConfigError, DataError, near_names
from weakseg.importing.answers import Answers, Question
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.folders import settle_split
from weakseg.importing.pairing import Folders, may_belong, pair, telling_folders
from weakseg.importing.tree import Tree, listed, name_of, stem_of
from weakseg.importing.typed import meant

_TRIED = 50
_ENDINGS = (".csv", ".tsv")
_MOST_TABLES = 100
_TOLD = 3
_USUAL = ("labels.csv", "manifest.csv")
"""Names of tables that are the likeliest where several fit, the likeliest first."""


@dataclass(frozen=True)
class _Names:
    """Images by their names without ending, in small letters; None for several of one name.

    An image and its mask often have one name, so that either is looked for among its like.
    """

    images: dict[str, str | None]
    masks: dict[str, str | None]
    all: dict[str, str | None]


def _names(tree: Tree) -> _Names:
    images = pair(tree.images).masks
    return _Names(
        _by_stem(images), _by_stem(f for f in tree.images if f not in images), _by_stem(tree.images)
    )


def _by_stem(files: Iterable[str]) -> dict[str, str | None]:
    by_stem: dict[str, str | None] = {}
    for f in files:
        stem = stem_of(f).casefold()
        by_stem[stem] = None if stem in by_stem else f
    return by_stem


def _recognise(tree: Tree) -> bool:
    return next(_tables(tree), None) is not None


def _tables(tree: Tree) -> Iterator[Table]:
    """Tables whose rows name images of the folder: those of the usual names, then the others."""
    files = _files(tree)
    names = _names(tree) if files else None
    return (t for f in files if names and (t := _table(f, tree, names)) is not None)


def _files(tree: Tree) -> list[str]:
    """All tables, the likeliest first, else in the order of their names."""
    files = tree.ending(*_ENDINGS)
    usual = [f for name in _USUAL for f in files if name_of(f) == name]
    return list(dict.fromkeys((*usual, *files)))


def _table(file: str, tree: Tree, names: _Names) -> Table | None:
    """A table, if most of its rows name images of the folder."""
    try:
        table = read_table(tree.path(file))
    except DataError:
        return None
    tried = table.rows[:_TRIED]
    found = sum(_found(r.image, table, tree, names.images) is not None for r in tried)
    return table if 2 * found > len(tried) else None


def illegible(tree: Tree) -> tuple[str, ...]:
    """Which tables are no text, and why: of those nothing else is known."""
    reasons = ((f, why_no_text(tree.path(f))) for f in _files(tree)[:_MOST_TABLES])
    told = [
        f"{file} is no text in UTF-8 ({why}) and left aside → {AS_TEXT}"
        for file, why in reasons
        if why is not None
    ]
    more = (f"and {len(told) - _TOLD} more are none",) if len(told) > _TOLD else ()
    return (*told[:_TOLD], *more)


def _found(cell: str, table: Table, tree: Tree, by_stem: dict[str, str | None]) -> Path | None:
    """The file that a cell means: as written, else the only one of that name."""
    if not cell:
        return None
    path = table.resolve(cell)
    if path.is_file():
        return path
    name = name_of(cell).casefold()
    # What looks like an ending may be a part of the name: scan.1 of scan.1.png.
    near = by_stem.get(stem_of(name)) or by_stem.get(name)
    return None if near is None else tree.path(near)


def _read(tree: Tree, answers: Answers) -> Arrangement:
    table, names = _chosen(tree, answers), _names(tree)
    found = [(r, _found(r.image, table, tree, names.images)) for r in table.rows]
    rows = [(r, image) for r, image in found if image is not None]
    folders = {telling_folders(_below(image, tree)) for _, image in rows}
    items = [_item(r, image, table, tree, names, folders) for r, image in rows]
    remarks = [
        f"{table.path.name}: {len(items)} of {len(table.rows)} rows name images of the folder"
    ]
    remarks += [f"the column {theirs!r} is taken for {ours}" for theirs, ours in table.taken]
    parts, blank = {i.split for i in items} - {""}, sum(not i.split for i in items)
    if "test" in parts and (blank or "train" not in parts or parts - set(SPLITS)):
        # Somebody's own test patients, and a slip beside them: the check names the rows.
        return Arrangement(tuple(items), tuple(remarks))
    if parts and not {"train", "test"} <= parts:
        remarks.append(f"its splits are {listed(sorted(parts))} alone: patients are dealt out anew")
    return Arrangement(settle_split(items, answers), tuple(remarks))


def _chosen(tree: Tree, answers: Answers) -> Table:
    """The only table, or the one that is meant; of very many the first that fits is likely."""
    found, files = _tables(tree), _files(tree)
    table = next(found, None)
    if table is None:
        raise DataError("No table names images that are there.", where=str(tree.root))
    text, first = "Which table is the set's?", table.path.relative_to(tree.root).as_posix()
    if len(files) > _MOST_TABLES:
        if name_of(first) in _USUAL and "table" not in answers.given:
            return table
        others = f"the first of {len(files)} that names images; the rest was not looked into"
        answer = answers.ask(Question("table", text, first, why=others))
        name = meant(answer, files, tree.root) or answer
        return table if name == first else _named(name, files, tree)
    by_name = {t.path.relative_to(tree.root).as_posix(): t for t in (table, *found)}
    if len(by_name) == 1:
        return table
    choices = tuple(f for f in tree.ending(*_ENDINGS) if f in by_name)
    return by_name[answers.ask(Question("table", text, first, choices, below=tree.root))]


def _named(name: str, files: Sequence[str], tree: Tree) -> Table:
    """The table that an answer names."""
    where = f"--answer table={name}"
    if name not in files:
        raise ConfigError(
            "There is no such table in the folder.",
            where=where,
            expected="a file below the folder, as the folder names it",
            fix=f"did you mean {' or '.join(map(repr, near))}?"
            if (near := near_names(name, files))
            else f"name one of its {len(files)} tables",
        )
    if (table := _table(name, tree, _names(tree))) is None:
        raise DataError(
            "The table does not name images that are there.",
            where=where,
            expected="a column of images, most of which lie in the folder",
            fix="name another one, or mend its paths",
        )
    return table


def _item(
    row: Row, image: Path, table: Table, tree: Tree, names: _Names, folders: AbstractSet[Folders]
) -> Item:
    """A row's item; `folders` are those that the images of all rows lie in."""
    # One that is not there stays as it is written, so that its row is told.
    masks = [
        _mask(m, table, tree, names, image, folders) or table.resolve(m) for m in table.masks(row)
    ]
    more = [table.resolve(c) for c in row.more if c]
    return Item(
        image,
        row.label,
        tuple(masks),
        row.patient,
        row.split,
        tuple(more),
        roi=table.resolve(row.roi) if row.roi else None,
        slice=row.slice,
    )


def _mask(
    cell: str, table: Table, tree: Tree, names: _Names, image: Path, folders: AbstractSet[Folders]
) -> Path | None:
    """The file that a cell of masks means; never the row's own image.

    One that is only called as the cell says may be another patient's: not where it lies among
    images of other rows.
    """
    written = table.resolve(cell)
    for by_stem in (names.masks, names.all):
        found = _found(cell, table, tree, by_stem)
        if found is None or found == image:
            continue
        if found == written or not _of_other_images(found, image, tree, folders):
            return found
    return None


def _of_other_images(mask: Path, image: Path, tree: Tree, folders: AbstractSet[Folders]) -> bool:
    """Whether a mask lies where other images of the table do, and its own does not."""
    at = _below(mask, tree)
    return telling_folders(at) in folders and not may_belong(at, _below(image, tree))


def _below(file: Path, tree: Tree) -> str:
    """A file as the folder names it; as it is where it lies elsewhere."""
    return file.relative_to(tree.root).as_posix() if file.is_relative_to(tree.root) else str(file)


TABLE = Layout("table", "a table of images and labels", _recognise, _read)
