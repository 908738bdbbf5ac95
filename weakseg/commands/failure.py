"""What is said where a command fails, and its exit code: 2 for the user's mistake, 1 for ours."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from weakseg.disk import OF_THE_DISK, path_trap
from weakseg.errors import EXIT_INTERNAL, EXIT_USER, WeaksegError, file_of, first_line, lacks_memory
from weakseg.launch import launched


def explain_failure(e: Exception) -> int:
    """Print an error as the user should see it; the exit code.

    Of several processes of a launcher each names itself: they may fail for reasons of their own.
    """
    launch = launched()
    if not launch.first:
        print(f"process {launch.rank + 1} of {launch.world}:", file=sys.stderr)
    if isinstance(e, WeaksegError):
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    if isinstance(e, OSError) and (e.filename or e.errno in OF_THE_DISK):
        where = f"\n  where: {e.filename}" if e.filename else ""
        trap = path_trap(Path(os.fsdecode(e.filename)), e) if e.filename else None
        if trap is None:
            print(f"error: {e.strerror}{where}", file=sys.stderr)
        else:
            what, found, fix = trap
            print(f"error: {what}{where}\n  found: {found}\n  fix: {fix}", file=sys.stderr)
        return EXIT_USER
    if lacks_memory(e):
        file = file_of(e)
        where = f"\n  where: {file}" if file else ""
        damaged = "; a damaged file may ask for far more than it holds" if file else ""
        print(
            f"error: There is not enough memory.{where}\n  found: {first_line(e)}\n"
            "  fix: close other programs, or take a smaller image_size or batch_size, fewer "
            f"processes at once or smaller images{damaged}; --debug shows where",
            file=sys.stderr,
        )
        return EXIT_USER
    print(
        f"error: weakseg failed: {type(e).__name__}: {e}\n"
        "  fix: a fault of weakseg, not yours; repeat with --debug and report the traceback",
        file=sys.stderr,
    )
    return EXIT_INTERNAL
