"""Groups of commands, a file each; `weakseg.cli` puts them together. Heavy imports stand inside."""
