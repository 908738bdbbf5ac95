"""weakseg: masks from a classifier's heatmaps, scored beside supervised segmenters.

What people import stands in ``__init__.pyi``, and is loaded when it is first touched; where that
takes long, a line on standard error says so.
"""

import sys as _sys
import threading as _threading

import lazy_loader as _lazy

_loaded, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

__version__ = "0.1.0"

_PATIENCE = 1.5
"""Seconds of silence."""


_told: list[bool] = []


def _tell() -> None:
    if _told:
        return
    _told.append(True)
    print("weakseg: loading torch and what goes with it, once", file=_sys.stderr, flush=True)


def __getattr__(name: str) -> object:
    if name not in __all__ or "torch" in _sys.modules:
        return _loaded(name)
    timer = _threading.Timer(_PATIENCE, _tell)
    timer.daemon = True
    timer.start()
    try:
        return _loaded(name)
    finally:
        timer.cancel()
