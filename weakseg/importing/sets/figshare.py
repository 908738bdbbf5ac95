"""Cheng's brain tumours: 3064 contrast-enhanced T1 slices of 233 patients, in MATLAB v7.3 files.

Each file holds ``cjdata`` with ``image``, ``tumorMask``, ``label`` (1 meningioma, 2 glioma,
3 pituitary tumour) and ``PID``, the patient. Such files are HDF5, which stores MATLAB's arrays
turned.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weakseg.errors import DataError
from weakseg.importing.answers import Answers
from weakseg.importing.base import Arrangement, Item, PublishedSet
from weakseg.importing.tree import Tree, name_of, stem_of

if TYPE_CHECKING:
    import numpy as np

INSTALL = "pip install 'weakseg[matlab]'"
CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}
MOST_PIXELS = 4096
"""A side; the set's own are 512."""
_NOT_CASES = ("cvind",)


@dataclass(frozen=True)
class _Slice:
    label: str
    patient: str
    image: np.ndarray
    mask: np.ndarray


def _read(tree: Tree, answers: Answers) -> Arrangement:
    files = [f for f in tree.ending(".mat") if stem_of(f).casefold() not in _NOT_CASES]
    if not files:
        raise DataError(
            "The folder does not hold the set.",
            where=str(tree.root),
            found=tree.summary(),
            expected="files 1.mat to 3064.mat",
            fix="unpack the four archives brainTumorDataPublic_*.zip into the folder",
        )
    if importlib.util.find_spec("h5py") is None:
        raise DataError(
            "Files of MATLAB v7.3 are read with the help of h5py, which is not installed.",
            where=str(tree.path(files[0])),
            fix=INSTALL,
        )
    items = []
    for file in files:
        content = _slice(tree.path(file), pixels=False)
        name = f"{stem_of(file)}.png"
        items.append(
            Item(Path("images", name), content.label, (Path("masks", name),), content.patient)
        )
    remark = f"{len(items)} files of MATLAB v7.3, written as 16-bit PNG"
    return Arrangement(tuple(items), (remark,), export=_exporter([tree.path(f) for f in files]))


def _slice(path: Path, pixels: bool = True) -> _Slice:
    import h5py
    import numpy as np

    try:
        with path.open("rb") as f, h5py.File(f, "r") as content:
            data = content["cjdata"]
            number = int(np.asarray(data["label"]).reshape(-1)[0])
            codes = np.asarray(data["PID"]).reshape(-1)
            image, mask = (_plane(data[k], pixels) for k in ("image", "tumorMask"))
    except (OSError, KeyError, ValueError, IndexError, TypeError) as e:
        raise DataError(
            "The file is none of the set's.",
            where=str(path),
            found=f"{type(e).__name__}: {e}",
            expected="MATLAB v7.3 (HDF5) with cjdata",
            fix="fetch it again",
        ) from None
    if number not in CLASSES:
        raise DataError(
            "The label is none of the set's.",
            where=f"{path}, cjdata/label",
            found=str(number),
            expected=", ".join(f"{k} ({v})" for k, v in CLASSES.items()),
        )
    return _Slice(CLASSES[number], "".join(chr(int(c)) for c in codes), image, mask)


def _plane(data: Any, pixels: bool) -> np.ndarray:
    """A 2D array as MATLAB has it, or nothing of it."""
    import numpy as np

    if len(data.shape) != 2 or max(data.shape) > MOST_PIXELS:
        raise ValueError(f"an array of the shape {data.shape}")
    return np.asarray(data).T if pixels else np.zeros((0, 0))


def _exporter(files: list[Path]) -> Callable[[Path, Callable[..., object]], None]:
    def export(out: Path, advance: Callable[..., object]) -> None:
        for file in files:
            content = _slice(file)
            name = f"{stem_of(name_of(file.as_posix()))}.png"
            _write(out / "images" / name, _as_16_bits(content.image))
            _write(out / "masks" / name, (content.mask != 0).astype("uint8") * 255)
            advance(1, of=len(files))

    return export


def _as_16_bits(values: np.ndarray) -> Any:
    """Samples as a PNG can hold them; below 0 there is nothing to see."""
    import numpy as np

    return np.clip(values, 0, 2**16 - 1).astype(np.uint16)


def _write(path: Path, values: np.ndarray) -> None:
    from PIL import Image

    from weakseg.runs import atomic_path

    with atomic_path(path, flushed=False) as part:
        Image.fromarray(values).save(part, format="PNG")


FIGSHARE = PublishedSet(
    "figshare-brain",
    "Brain tumour dataset of Cheng on figshare",
    "The folder of its .mat files (MATLAB v7.3; needs h5py).",
    licence="CC BY 4.0",
    citation="Cheng J, Huang W, Cao S, Yang R, Yang W, Yun Z, Wang Z, Feng Q. Enhanced performance "
    "of brain tumor classification via tumor region augmentation and partition. PLoS ONE 10 "
    "(2015), e0140381; data: Cheng J, figshare (2017)",
    address="https://doi.org/10.6084/m9.figshare.1512427",
    read=_read,
)
