"""Weights that users give: safetensors, or what ``torch.save`` wrote of tensors.

No code in such a file is run: of a pickled file nothing but tensors and plain values is read.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from weakseg.errors import UserError, first_line, lacks_memory, note_file
from weakseg.models.states import tell
from weakseg.progress import say
from weakseg.training.weights import load_weights

INSIDE = (
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights"),
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "module", "teacher", "student"),
)
"""Where trainings put a network's tensors in their checkpoints; the first that is there is read."""

DEPTH = 4
"""Dictionaries within dictionaries that are looked into."""

_PICKLED = (b"PK\x03\x04", b"\x80")
"""First bytes of what torch writes, today and before 1.6."""


def given_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file by name, and the header of safetensors (else empty).

    Parameters
    ----------
    path : Path
        What is in it decides how it is read, not its ending.

    Raises
    ------
    UserError
        If it is missing or damaged, or holds a whole network rather than its tensors.
    """
    if not path.is_file() or not _is_pickled(path):
        return load_weights(path)
    try:
        # Opened here: given a path, torch goes by its ending.
        with path.open("rb") as f, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below
            content = torch.load(f, map_location="cpu", weights_only=True)
    except Exception as e:  # torch raises many kinds for a damaged file
        if lacks_memory(e):
            note_file(e, path)
            raise
        raise _not_tensors(path, e) from None
    tensors = _tensors(content, path)
    if not tensors:
        raise UserError(
            "The weights file holds no tensors by name.",
            where=str(path),
            found=_found(content),
            expected=f"a state dict, alone or under one of: {', '.join(INSIDE[:4])}, …",
            fix="save it with torch.save(model.state_dict(), path)",
        )
    return tensors, {}


def _is_pickled(path: Path) -> bool:
    with path.open("rb") as f:
        begin = f.read(10)
    # A safetensors file begins with the length of its header, which may be any number.
    return begin.startswith(_PICKLED) and begin[8:9] != b"{"


def _tensors(held: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """Tensors by name in what a file holds, at the top or further inside."""
    if not isinstance(held, Mapping):
        return {}
    kept = {str(k): v for k, v in held.items() if isinstance(v, Tensor)}
    inside = [k for k in INSIDE if isinstance(held.get(k), Mapping) and held[k]]
    if kept and not inside:
        return {k: _dense(k, v, path) for k, v in kept.items()}
    for key in inside if depth < DEPTH else []:
        if tensors := _tensors(held[key], path, depth + 1):
            if len(inside) > 1:
                say(f"{path}: of {', '.join(inside)} the tensors of {key} are read")
            return tensors
    return {k: _dense(k, v, path) for k, v in kept.items()}


def _dense(name: str, tensor: Tensor, path: Path) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex():
        raise UserError(
            "The weights are quantised, sparse or complex.",
            where=f"{path}, tensor {name!r}",
            found=f"{tensor.dtype}, {tensor.layout}",
            expected="dense floating-point tensors",
            fix="take the weights from before that conversion",
        )
    return tensor.detach()


def _found(held: Any) -> str:
    if not isinstance(held, Mapping):
        return type(held).__name__
    return f"a dictionary with {tell(map(str, held), 8)}" if held else "an empty dictionary"


def _not_tensors(path: Path, e: Exception) -> UserError:
    said = str(e)
    if "TorchScript" in said or "constants.pkl" in said:
        what = "The weights file is a TorchScript program, which is not run."
    elif "weights_only" in said or "Unsupported" in said:
        what = "The weights file holds Python objects beside tensors, and no code in it is run."
    else:
        return UserError(
            "The weights file is damaged.",
            where=str(path),
            found=first_line(e)[:200],
            fix="copy or download it again",
        )
    return UserError(
        what,
        where=str(path),
        found=_blamed(said),
        expected="a state dict: tensors by name",
        fix="in the program that made it, where you trust it: "
        "torch.save(torch.load(path, weights_only=False).state_dict(), new_path); of a checkpoint "
        'with more in it, torch.save(torch.load(path, weights_only=False)["state_dict"], new_path)',
    )


def _blamed(said: str) -> str:
    """The class that torch will not make, as far as it names it."""
    for line in said.splitlines():
        if "GLOBAL" in line or "Unsupported" in line:
            return line.strip()[:200]
    return said.strip().splitlines()[0][:200] if said.strip() else "no more is known"
