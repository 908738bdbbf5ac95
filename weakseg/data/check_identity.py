"""Rows whose paths tell who a patient is: a run folder keeps paths, and is given away."""

from __future__ import annotations

from weakseg.data.formats.dicom.identity import identifiers_of, tells
from weakseg.data.manifest import Problem, Row, Table

NAMES_PATIENT = "names-patient"


def identity_problem(row: Row, table: Table) -> Problem | None:
    """What is wrong with a row of DICOM files that holds what their header says of the patient.

    Parameters
    ----------
    row : Row
    table : Table

    Returns
    -------
    Problem or None
        Without the file, as its name is what must not be told.
    """
    images = [table.resolve(c) for c in row.modalities]
    identifiers = [
        of_patient for image in images if (of_patient := identifiers_of(image)) is not None
    ]
    if not identifiers:
        return None
    of_patient = frozenset().union(*identifiers)
    others = [table.resolve(c) for c in (*table.masks(row), row.roi) if c]
    parts = {p for path in (*images, *others) for p in path.parts}
    telling = [p for p in parts if tells(p, of_patient)]
    columns = [n for n in ("patient", "label") if tells(getattr(row, n), of_patient)]
    if not telling and not columns:
        return None
    where = " and ".join((["a path"] if telling else []) + [f"the column {n!r}" for n in columns])
    return Problem(
        NAMES_PATIENT,
        row.line,
        None,
        f"{where} holds what the DICOM header says of the patient (a name, a number, a date or a "
        "UID), and a run keeps both",
        "import the files: `weakseg import dicom` names them by keyed hashes; or rename them",
    )
