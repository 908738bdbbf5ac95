"""File formats: one file a format, each behind the contract in `base`; `registry` lists them."""
