"""What can go wrong, and the exit codes.

Every message answers, as far as it applies: what, where, found, expected, and the way out.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

EXIT_INTERNAL = 1
EXIT_USER = 2
EXIT_INTERRUPTED = 130


class WeaksegError(Exception):
    """A failure with a message for the user.

    Parameters
    ----------
    what : str
        One sentence that says what is wrong.
    where : str, optional
        File, row or configuration key.
    found, expected : str, optional
        What was there and what should have been.
    fix : str, optional
        The next thing to do.
    """

    exit_code = EXIT_INTERNAL

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.found = what, where, found
        self.expected, self.fix = expected, fix
        super().__init__(self.render())

    def render(self) -> str:
        """The message as lines of text."""
        parts = [
            ("where", self.where),
            ("found", self.found),
            ("expected", self.expected),
            ("fix", self.fix),
        ]
        return "\n".join([self.what, *(f"  {k}: {v}" for k, v in parts if v)])


class UserError(WeaksegError):
    """Bad input, bad configuration, or something missing that the user can supply."""

    exit_code = EXIT_USER


class ConfigError(UserError):
    """The experiment file or a ``--set`` is wrong."""


class ArgumentError(UserError, ValueError):
    """A function was handed something that it cannot take."""


class DataError(UserError):
    """A manifest, an image or a mask is wrong."""


class RunError(UserError):
    """A run folder lacks something, is in use, or belongs to something else."""


def check_argument(value: object, kind: type, where: str, expected: str) -> None:
    """Refuse what is not of a kind, before it fails deep inside.

    Parameters
    ----------
    value : object
    kind : type
    where : str
        The argument's name.
    expected : str
        What it should be, in words, with the way to get one.

    Raises
    ------
    ArgumentError
        If it is of another kind.
    """
    if not isinstance(value, kind):
        raise ArgumentError(
            f"{where} is of the wrong kind.",
            where=where,
            found=type(value).__name__,
            expected=expected,
        )


def count(n: int, singular: str, plural: str | None = None) -> str:
    """A number and its noun."""
    return f"{n} {singular if n == 1 else plural or singular + 's'}"


def is_or_are(n: int, singular: str, of: str = "") -> str:
    """A number, its noun, what stands behind the noun, and the verb: ``1 mask of v1 is``."""
    behind = f" {of}" if of else ""
    return f"{count(n, singular)}{behind} {'is' if n == 1 else 'are'}"


def first_line(e: BaseException) -> str:
    """What an exception says, on one line; its kind where it says nothing."""
    lines = (line.strip() for line in str(e).splitlines())
    return next(filter(None, lines), type(e).__name__)


NO_ROOM = (
    "out of memory",
    "can't allocate memory",
    "failed to allocate memory",
    "bad_alloc",
    "bad allocation",
    "alloc_failed",
)
"""What torch on processors and graphics cards, and engines, say of it in errors of other kinds."""


WHILE = "while reading "
"""How the note of `note_file` begins."""


def lacks_memory(e: BaseException) -> bool:
    """Whether it is the machine's memory, or a graphics card's, that did not suffice.

    Whoever makes of any error that a file is damaged, or that a network does not fit, asks first.
    """
    if isinstance(e, MemoryError) or type(e).__name__ == "OutOfMemoryError":
        return True
    said = str(e).lower()
    return getattr(e, "errno", None) == errno.ENOMEM or any(w in said for w in NO_ROOM)


def note_file(e: BaseException, path: object) -> None:
    """Note with an error that names no file which one was read."""
    e.add_note(f"{WHILE}{path}")


def file_of(e: BaseException) -> str | None:
    """What `note_file` has noted, the first where several have."""
    notes = (n for n in getattr(e, "__notes__", ()) if n.startswith(WHILE))
    return next((n.removeprefix(WHILE) for n in notes), None)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to ``word``, or None when nothing is near."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def near_names(word: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names near to ``word``, the nearest first; those that hold it, or are held, too."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=most, cutoff=0.5)
    holding = [n for n in names if word and (word in n or n in word) and n not in close]
    return (close + holding)[:most]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A remedy for a misspelt name: the nearest one, else the whole list."""
    names = list(known)
    close = nearest(word, names)
    return f"did you mean {close!r}?" if close else f"choose one of: {', '.join(names)}"
