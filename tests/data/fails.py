"""Work for processes to fail at; apart from the tests, for each process imports where it stands."""


def fail(n: int) -> int:
    """The negative, but of three."""
    if n == 3:
        raise OSError("disk")
    return -n
