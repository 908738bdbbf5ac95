"""Keyed hashes in the place of patients' identifiers, and the key, which stays with its owner.

A hash without a key could be undone by trying: there are few patient numbers. With one (HMAC with
SHA-256, RFC 2104) whoever has not the key learns nothing, and whoever has it gets the same names
again.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weakseg.errors import UserError

KEY_FILE = "dicom.key"
KEY_VARIABLE = "WEAKSEG_DICOM_KEY"
"""Environment variable that names the key's file."""

_BYTES = 32
_DIGITS = 16  # 64 bits: two of a million patients share them with a probability of 3e-8


@dataclass(frozen=True)
class Pseudonyms:
    """Names that stand for others, the same for the same key.

    Attributes
    ----------
    key : bytes
    """

    key: bytes = field(repr=False)

    def of(self, kind: str, *parts: str) -> str:
        """A name of 16 hexadecimal digits for something of a kind (patient, series, …)."""
        text = "\0".join((kind, *parts)).encode()
        return hmac.new(self.key, text, hashlib.sha256).hexdigest()[:_DIGITS]


def default_key_file() -> Path:
    """Where the key is kept unless somebody says otherwise: in the user's own settings.

    ``$WEAKSEG_DICOM_KEY``, else ``weakseg/dicom.key`` in ``$XDG_CONFIG_HOME``, ``%APPDATA%`` on
    Windows, or ``~/.config``.
    """
    if named := os.environ.get(KEY_VARIABLE):
        return Path(named)
    home = os.environ.get("APPDATA") if os.name == "nt" else os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "weakseg" / KEY_FILE


def read_pseudonyms(path: Path | None = None, away_from: Sequence[Path] = ()) -> Pseudonyms:
    """The names that a key gives; a key is made where there is none, readable by its owner alone.

    Parameters
    ----------
    path : Path, optional
        The key's file; default `default_key_file`.
    away_from : sequence of Path
        Folders that are given away, in which a key must not lie.

    Raises
    ------
    UserError
        For a key in such a folder, one that others may read, a file that is no key, or one that
        cannot be written.
    """
    file = default_key_file() if path is None else path
    for folder in away_from:
        if file.resolve().is_relative_to(folder.resolve()):
            raise UserError(
                "The key must not lie beside what it protects.",
                where=str(file),
                fix=f"keep it elsewhere: --key FILE, or the variable {KEY_VARIABLE}",
            )
    try:
        return Pseudonyms(_read(file) if file.exists() else _make(file))
    except OSError as e:
        raise UserError(
            "The key that hides patients' identifiers cannot be read or written.",
            where=str(file),
            found=e.strerror,
            fix=f"name a file that you may write with --key or the variable {KEY_VARIABLE}",
        ) from None


def _read(file: Path) -> bytes:
    mode = file.stat().st_mode
    if os.name != "nt" and stat.S_IMODE(mode) & 0o077:
        raise UserError(
            "The key may be read by others.",
            where=str(file),
            found=f"permissions {stat.S_IMODE(mode):o}",
            expected="600: its owner alone",
            fix=f"chmod 600 {file}",
        )
    try:
        key = bytes.fromhex(file.read_text(encoding="ascii").strip())
    except ValueError:
        key = b""
    if len(key) < _BYTES:
        raise UserError(
            "The file holds no key.",
            where=str(file),
            expected=f"{2 * _BYTES} hexadecimal digits",
            fix="name the right file, or another that does not exist yet, so that a key is made",
        )
    return key


def _make(file: Path) -> bytes:
    """A new key, written by whoever comes first."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = secrets.token_bytes(_BYTES)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
        f.write(key.hex() + "\n")
    try:
        os.link(part, file)
    except FileExistsError:
        return _read(file)
    except OSError:  # a disk without links
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return key
