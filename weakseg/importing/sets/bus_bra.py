"""BUS-BRA: breast ultrasound with BI-RADS categories, of biopsied lesions.

``bus_data.csv`` names each image, its patient (``Case``) and its pathology; the image
``Images/bus_0001-l.png`` has the mask ``Masks/mask_0001-l.png``.
"""

from __future__ import annotations

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, PublishedSet
from weakseg.importing.tables import read_columns
from weakseg.importing.tree import Tree, name_of

TABLE = "bus_data.csv"


def _read(tree: Tree, answers: Answers) -> Arrangement:
    tables = tree.named(TABLE)
    if not tables:
        raise DataError(
            f"The folder does not hold {TABLE}.",
            where=str(tree.root),
            found=tree.summary(),
            fix="name the unpacked folder of the set, BUSBRA",
        )
    rows = read_columns(
        tree.path(tables[0]), ("ID", "Case", "Pathology"), ("BIRADS", "Histology", "Device")
    )
    files = {name_of(f).casefold(): f for f in tree.images}
    items, missing = [], []
    for row in rows:
        image = files.get(f"{row['ID']}.png".casefold())
        mask = files.get(f"mask_{row['ID'].partition('_')[2]}.png".casefold())
        if image is None:
            missing.append(row["ID"])
            continue
        items.append(
            Item(
                tree.path(image),
                row["Pathology"].casefold(),
                (tree.path(mask),) if mask else (),
                f"case-{row['Case']}",
                extra={"birads": row["BIRADS"], "histology": row["Histology"]},
            )
        )
    remarks = [f"BUS-BRA: {len(items)} images of {TABLE}"]
    if missing:
        remarks.append(
            f"{len(missing)} rows of {TABLE} name no image that is there, and are left out"
        )
    return Arrangement(tuple(items), tuple(remarks))


BUS_BRA = PublishedSet(
    "bus-bra",
    "BUS-BRA: a breast ultrasound dataset with BI-RADS categories",
    f"The folder BUSBRA with Images, Masks and {TABLE}.",
    licence="CC BY 4.0, and research that uses it has to cite the paper",
    citation="Gómez-Flores W, Gregorio-Calas MJ, Pereira WCA. BUS-BRA: A breast ultrasound dataset "
    "for assessing computer-aided diagnosis systems. Medical Physics 51 (2024), 3110-3123",
    address="https://doi.org/10.5281/zenodo.8231412",
    read=_read,
)
