"""A table that is nearly a manifest: columns for image and label, and the images below."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from weakseg.data.table import Row, Table, read_table
from weakseg.errors import DataError
from weakseg.importing.answers import Answers, Question
from weakseg.importing.base import Arrangement, Item, Layout
from weakseg.importing.folders import settle_split
from weakseg.importing.tree import Tree, name_of, stem_of

_TRIED = 50
_ENDINGS = (".csv", ".tsv")
_MOST_TABLES = 100
_USUAL = ("labels.csv", "manifest.csv")
"""Names of tables that are the likeliest where several fit, the likeliest first."""


def _recognise(tree: Tree) -> bool:
    return next(_tables(tree), None) is not None


def _tables(tree: Tree) -> Iterator[Table]:
    """Tables whose rows name images of the folder, in the order of their names."""
    for file in tree.ending(*_ENDINGS):
        try:
            table = read_table(tree.path(file))
        except DataError:
            continue
        tried = table.rows[:_TRIED]
        if 2 * sum(_found(r.image, table, tree) is not None for r in tried) > len(tried):
            yield table


def _found(cell: str, table: Table, tree: Tree) -> Path | None:
    """The file that a cell means: as written, else the only image of that name."""
    if not cell:
        return None
    path = table.resolve(cell)
    if path.is_file():
        return path
    name = name_of(cell).casefold()
    # What looks like an ending may be a part of the name: scan.1 of scan.1.png.
    near = tree.by_stem.get(stem_of(name)) or tree.by_stem.get(name)
    return None if near is None else tree.path(near)


def _read(tree: Tree, answers: Answers) -> Arrangement:
    table = _chosen(tree, answers)
    items = [i for r in table.rows if (i := _item(r, table, tree)) is not None]
    remarks = [
        f"{table.path.name}: {len(items)} of {len(table.rows)} rows name images of the folder"
    ]
    remarks += [f"the column {theirs!r} is taken for {ours}" for theirs, ours in table.taken]
    return Arrangement(settle_split(items, answers), tuple(remarks))


def _chosen(tree: Tree, answers: Answers) -> Table:
    """The only table, or the one that is meant; of very many the first is taken unasked."""
    found = _tables(tree)
    table = next(found, None)
    if table is None:
        raise DataError("No table names images that are there.", where=str(tree.root))
    if len(tree.ending(*_ENDINGS)) > _MOST_TABLES:
        return table
    by_name = {t.path.relative_to(tree.root).as_posix(): t for t in (table, *found)}
    if len(by_name) == 1:
        return table
    usual = (n for name in _USUAL for n in by_name if name_of(n) == name)
    first = next(usual, next(iter(by_name)))
    question = Question("table", "Which table is the set's?", first, tuple(by_name))
    return by_name[answers.ask(question)]


def _item(row: Row, table: Table, tree: Tree) -> Item | None:
    image = _found(row.image, table, tree)
    if image is None:
        return None
    # One that is not there stays as it is written, so that its row is told.
    masks = [_found(m, table, tree) or table.resolve(m) for m in table.masks(row)]
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


TABLE = Layout("table", "a table of images and labels", _recognise, _read)
