"""Published sets for which a layout is not enough, a file each; `registry` lists them."""
