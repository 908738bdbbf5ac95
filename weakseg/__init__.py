"""weakseg: masks from a classifier's heatmaps, scored beside supervised segmenters.

What people import stands in ``__init__.pyi``, and is loaded when it is first touched.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

__version__ = "0.1.0"
