"""Numbers as text, the same in chapters, on the site and in the terminal. Needs nothing else."""

import statistics


def signed(value, scale=None):
    """A number with its sign, precise enough for numbers up to `scale`."""
    scale = abs(value) if scale is None else scale
    style = "+.1e" if 0 < scale < 0.001 else "+.3f" if scale < 1 else "+.2f"
    return f"{value:{style}}".replace("-", "−")


def interval(difference):
    """`+1.50 [+0.25, +2.75]` of a `labutils.statistics.Interval`."""
    values = [difference.mean, difference.low, difference.high]
    mean, low, high = (signed(value, max(map(abs, values))) for value in values)
    return f"{mean} [{low}, {high}]"


def mean_sd(values):
    """`64.6 ± 1.2`: mean and standard deviation; of one value, that value."""
    values = [float(value) for value in values]
    # spaces that do not break, as columns are narrow
    spread = f"\u00a0±\u00a0{statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{spread}"


def p_value(p):
    """`0.012`; small ones as a bound, `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
