"""The variance of a share that is estimated from draws.

As found, it is too small near 0 and 1, down to nothing where all draws are alike. That of the share with two more
draws of each outcome is not (Agresti and Coull 1998, Am. Stat. 52:119).
"""

from __future__ import annotations


def variance(share: float, draws: float) -> float:
    """Of the share with two more draws of each outcome.

    Args:
        share: as found.
        draws: of how many independent ones.
    """
    padded = (share * draws + 2) / (draws + 4)
    return padded * (1 - padded) / (draws + 4)


def lack(share: float, draws: float) -> float:
    """By how much that exceeds the variance as found; 0 where it does not.

    Args:
        share: as found.
        draws: of how many independent ones.
    """
    return max(0.0, variance(share, draws) - share * (1 - share) / draws)
