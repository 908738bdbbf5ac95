"""The phantom on disk: simulated slices as a set of files, the toolkit's own data."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg.config import PhantomConfig
from weakseg.data.phantom_slices import GENERATOR, PhantomSlice, phantom_slices
from weakseg.errors import DataError

VOLUMES = 1
"""Version of how slices make a volume."""

HEIGHT_MM, RISE_MM = 200.0, 140.0

_README = """\
SIMULATED IMAGES: not from patients.

weakseg drew these pictures with a random number generator. They imitate FLAIR slices of heads,
with and without a lesion, so that the toolkit can be tried and tested without any medical data.
Scores on them say nothing about how a method does on patients.

labels.csv    one row a slice: image, mask, label (tumor or normal), patient
images/       8-bit grey PNG
masks/        8-bit PNG, 255 where the lesion is, 0 elsewhere; all 0 where label is normal
phantom.json  the parameters; the same parameters give the same pixels
"""

_VOLUMES_README = """\
SIMULATED VOLUMES: not from patients.

weakseg drew their slices with a random number generator. They imitate FLAIR volumes of heads,
with and without a lesion, so that the toolkit can be tried and tested without any medical data.
Scores on them say nothing about how a method does on patients.

labels.csv    one row a slice: image, slice (from 0), mask, label (tumor or normal), patient;
              of slabs (phantom.json: slab) one row a volume, without a slice
images/       8-bit NIfTI, a volume a patient; left, back, up; sizes in mm
masks/        8-bit NIfTI on the same grid, 1 where the lesion is, 0 elsewhere
phantom.json  the parameters; the same parameters give the same voxels
"""

_SHORTCUT = """
A SHORTCUT IS BUILT IN: a white square in the top left corner of every image whose label is tumor,
and of no other. It gives the label away without the lesion; no mask holds it.
"""

_PAIRS = """
PAIRS: NAME_twin.png is NAME.png drawn again without its lesion, with the same noise. Nothing but
the lesion{other} tells the two apart; slices and patients without a lesion are left out.
"""


def phantom_name(config: PhantomConfig) -> str:
    """The name of the folder that holds a phantom; other parameters, another name."""
    p = config
    name = f"phantom-{p.patients}x{p.slices_per_patient}-{p.size}px-seed{p.seed}"
    more = {"shortcut": p.shortcut, "pairs": p.pairs, "volumes": p.volumes}
    parts = [name, *(part for part, there in more.items() if there)]
    return "-".join(parts if p.slab is None else [*parts, f"slabs-of-{p.slab}"])


def write_phantom(folder: Path, config: PhantomConfig) -> Path:
    """Write a phantom to disk, or find it there already.

    The files are written beside ``folder`` and moved into place at the end, so that a folder of
    that name is always whole. A folder that holds the same phantom is used as it is; one that
    holds another phantom is replaced.

    Parameters
    ----------
    folder : Path
        Made with its parents. See the README.txt in it for what it holds.
    config : PhantomConfig

    Returns
    -------
    Path
        ``folder/labels.csv``, with columns image, mask, label, patient; paths in it are relative.

    Raises
    ------
    DataError
        When ``folder`` exists and holds something other than a phantom: it is left untouched.
    """
    folder = Path(folder)
    only = {"volumes", "slab"}
    recipe = {"generator": GENERATOR, **config.model_dump(mode="json", exclude=only)}
    if config.volumes:
        recipe["volumes"] = VOLUMES
    if config.slab is not None:
        recipe["slab"] = config.slab
    if _holds(folder, recipe):
        return folder / "labels.csv"
    _refuse_foreign(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        # mkdtemp is private to the user; the finished folder is as readable as any other.
        temporary.chmod(0o755)
        _write_files(temporary, config, recipe)
        # Another process may have put the same phantom there meanwhile, and be reading it.
        if _holds(folder, recipe):
            return folder / "labels.csv"
        if folder.exists():
            _refuse_foreign(folder)
            shutil.rmtree(folder)
        try:
            temporary.rename(folder)
        except OSError:
            # As above, in the last moment.
            if not _holds(folder, recipe):
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / "labels.csv"


def _write_files(folder: Path, config: PhantomConfig, recipe: dict[str, object]) -> None:
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    (_write_volumes if config.volumes else _write_slices)(folder, config)
    (folder / "README.txt").write_text(_readme(config), encoding="utf-8")
    (folder / "phantom.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def _slices(config: PhantomConfig) -> Iterator[PhantomSlice]:
    return phantom_slices(
        config.patients,
        config.slices_per_patient,
        config.size,
        config.seed,
        shortcut=config.shortcut,
        pairs=config.pairs,
    )


def volume_affine(size: int, slices: int) -> NDArray[np.float64]:
    """From voxel indices of a phantom's volume to mm.

    The first axis points to the patient's left, the second to the back, the third upwards; heads
    are 200 mm of picture high, and slices lie 140 mm over their number apart.
    """
    side = HEIGHT_MM / size
    affine = np.diag([-side, -side, RISE_MM / slices, 1.0])
    affine[:3, 3] = (0.4 * HEIGHT_MM, 0.5 * HEIGHT_MM, 0.0)
    return affine


def _write_volumes(folder: Path, config: PhantomConfig) -> None:
    """A volume and a mask a patient, and a row a slice; or a slab of slices each, and a row."""
    affine = volume_affine(config.size, config.slices_per_patient)
    header = ["image", "slice", "mask", "label", "patient"]
    if config.slab is not None:
        header.remove("slice")
    rows: list[list[object]] = [[*header]]
    for patient, of in groupby(_slices(config), key=lambda s: s.patient):
        slices = list(of)
        if config.slab is None:
            image, mask = _write_volume(folder, f"{patient}.nii.gz", slices, affine)
            rows += [[image, z, mask, s.label, patient] for z, s in enumerate(slices)]
            continue
        # What fills no slab is left out.
        for first in range(0, len(slices) - config.slab + 1, config.slab):
            some, there = slices[first : first + config.slab], affine.copy()
            there[:3, 3] += first * affine[:3, 2]
            image, mask = _write_volume(folder, f"{patient}_{first:02d}.nii.gz", some, there)
            label = next((s.label for s in some if s.mask.any()), some[0].label)
            rows.append([image, mask, label, patient])
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _write_volume(
    folder: Path, name: str, slices: list[PhantomSlice], affine: NDArray[np.float64]
) -> tuple[str, str]:
    """Write slices as one volume, and their masks; where, as the manifest has it."""
    import nibabel as nib

    for part, planes in (
        ("images", [s.image for s in slices]),
        ("masks", [s.mask.astype(np.uint8) for s in slices]),
    ):
        made = nib.Nifti1Image(np.stack([p.T for p in planes], axis=2), affine)
        made.header.set_xyzt_units("mm")
        nib.save(made, folder / part / name)
    return f"images/{name}", f"masks/{name}"


def _write_slices(folder: Path, config: PhantomConfig) -> None:
    """A picture and a mask a slice, and a row each."""
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "mask", "label", "patient"])
        for s in _slices(config):
            name = f"{s.patient}_{s.number:02d}{'_twin' if s.twin else ''}.png"
            Image.fromarray(s.image).save(folder / "images" / name)
            Image.fromarray(s.mask.astype(np.uint8) * 255).save(folder / "masks" / name)
            rows.writerow([f"images/{name}", f"masks/{name}", s.label, s.patient])


def _readme(config: PhantomConfig) -> str:
    text = _VOLUMES_README if config.volumes else _README
    if config.shortcut:
        text += _SHORTCUT
    if config.pairs:
        text += _PAIRS.format(other=" and the square" if config.shortcut else "")
    return text


def _holds(folder: Path, recipe: dict[str, object]) -> bool:
    """Whether ``folder`` is the phantom of ``recipe``, with no file gone."""
    try:
        if json.loads((folder / "phantom.json").read_text(encoding="utf-8")) != recipe:
            return False
        with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return bool(rows) and all(
            (folder / r[k]).is_file() for r in rows for k in ("image", "mask")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _refuse_foreign(folder: Path) -> None:
    if not folder.exists() or (folder / "phantom.json").is_file():
        return
    if folder.is_dir() and not any(folder.iterdir()):
        return
    raise DataError(
        "The phantom cannot be written: something else is there.",
        where=str(folder),
        found="a folder without phantom.json" if folder.is_dir() else "a file",
        expected="no such folder, an empty one, or an earlier phantom",
        fix="name another folder, or move this one away",
    )
