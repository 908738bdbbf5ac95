"""The sections of a run's part of the page: one file a section, listed in `registry`."""
