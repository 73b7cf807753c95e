"""Wilson's 95 % interval of a share."""

import math

Interval = tuple[float, float]

_Z = 1.959963984540054  # of the normal distribution, for 95 %


def wilson(successes: float, trials: int) -> Interval:
    """95 % interval of a share (Wilson 1927); it stays within [0, 1] and does not collapse at its ends.

    Args:
        successes: How many of the trials; a fraction where a trial may succeed in part.
        trials: How many independent trials.

    Raises:
        ValueError: There are no trials.
    """
    if trials < 1:
        raise ValueError("a share of nothing")
    share, spread = successes / trials, _Z * _Z / trials
    centre = (share + spread / 2) / (1 + spread)
    reach = _Z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return max(centre - reach, 0.0), min(centre + reach, 1.0)
