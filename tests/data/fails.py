"""Work for processes to fail at; apart from the tests, for each process imports where it stands."""

import os


def fail(n: int) -> int:
    """The negative, but of three."""
    if n == 3:
        raise OSError("disk")
    return -n


def ends_itself(n: int) -> int:
    """The number; as if the system killed the process at 1."""
    if n == 1:
        os._exit(9)
    return n
