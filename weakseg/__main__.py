"""``python -m weakseg``."""

from weakseg.cli import main

main()
