"""Ways in which files lie in folders, a file each; `registry` lists them."""
