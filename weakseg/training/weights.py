"""A network's tensors on disk, as safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from weakseg.errors import UserError
from weakseg.runs import atomic_path


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """A network's tensors by name, on the CPU; not copies where they are there already."""
    return {k: v.detach().cpu() for k, v in model.state_dict().items()}


def save_weights(
    path: Path, weights: nn.Module | Mapping[str, Tensor], metadata: dict[str, str]
) -> None:
    """Write a network, or its tensors by name, as safetensors, whole or not at all.

    Equal tensors and metadata give equal bytes: heatmaps are known by the hash of this file.
    """
    from safetensors.torch import save

    kept = tensors_of(weights) if isinstance(weights, nn.Module) else weights
    state = {k: v.contiguous() for k, v in kept.items()}
    header, tensors = _sorted_header(save(state, metadata=metadata))
    size = len(header) + len(tensors)
    with atomic_path(path, size=size) as part, part.open("wb") as f:
        f.write(header)
        f.write(tensors)


def _sorted_header(data: bytes) -> tuple[bytes, memoryview]:
    """The header of a safetensors file with its metadata in order, and the tensors behind it.

    The library writes metadata in the order of a hash map, another in every process; tensors it
    sorts itself.
    """
    begin = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:begin])
    header["__metadata__"] = dict(sorted(header.get("__metadata__", {}).items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text, memoryview(data)[begin:]


def second_name(path: Path, other: Path) -> None:
    """Give a file a second name, or copy it where the disk cannot."""
    if other.exists() and other.samefile(path):
        return  # to rename one name of a file to another does nothing: the temporary would stay
    with atomic_path(other, size=path.stat().st_size) as part:
        try:
            part.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, part)


def load_weights(
    path: Path, fix: str = "convert it with safetensors.torch.save_file(state_dict, path)"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file; no code in it is run, as it can hold none.

    Parameters
    ----------
    path : Path
    fix : str, optional
        What to do where it is damaged.

    Raises
    ------
    UserError
        If the file is missing or is not safetensors.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise UserError(
            "The weights file does not exist.",
            where=str(path),
            fix="check the path; weights: none trains from scratch",
        )
    try:
        with safe_open(path, framework="pt") as f:
            return {k: f.get_tensor(k) for k in f.keys()}, f.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise UserError(
            "The weights file is not safetensors, or is damaged.",
            where=str(path),
            found=str(e),
            expected="a .safetensors file (pickled .pth files can run code and are not read)",
            fix=fix,
        ) from None
