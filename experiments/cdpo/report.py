"""The report."""


def write(*a):
    pass
