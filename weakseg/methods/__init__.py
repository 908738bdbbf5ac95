"""Whatever makes a mask of a case."""
