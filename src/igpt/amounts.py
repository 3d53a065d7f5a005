"""Amounts as people read them: "1 layer", "21 minutes", "until 16:40", "17 days", "2.3 MB"."""

import time

_UNITS = ((365 * 86_400, "year"), (86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
_WHOLE_FROM = 10  # hours, days and years below this many have a decimal
_MOST_YEARS = 100


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 layer", "1,440 layers"; the plural ends in s if None."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def spoken(seconds: float) -> str:
    """Return a duration in the unit that fits: seconds up to 90, minutes up to 90, and so on."""
    if seconds >= _MOST_YEARS * _UNITS[0][0]:
        return f"more than {_MOST_YEARS} years"
    if seconds < 1:
        return "less than a second"
    for size, unit in _UNITS:
        count = seconds / size
        if count >= 1.5 or unit == "second":
            break
    fine = size > 60 and count < _WHOLE_FROM - 0.05
    text = f"{count:.1f}".removesuffix(".0") if fine else f"{count:.0f}"
    return f"{text} {unit}" + ("" if text == "1" else "s")


def until(seconds: float, *, now: float | None = None) -> str:
    """Return when that will be, by the local clock: "16:40", with the day if it is not today's.

    Args:
        seconds: From now on.
        now: Seconds since the epoch; the present by default.
    """
    now = time.time() if now is None else now
    then, today = time.localtime(now + seconds), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    if seconds < 6 * 86_400:
        return time.strftime("%A %H:%M", then)
    return time.strftime("%Y-%m-%d", then)


def estimate(seconds: float, *, now: float | None = None) -> str:
    """Return "about 21 minutes, until 16:40"; without a date for what nobody will wait for."""
    if seconds >= _UNITS[0][0]:
        return f"about {spoken(seconds)}"
    return f"about {spoken(seconds)}, until {until(seconds, now=now)}"


def size_text(count: int) -> str:
    """Return a number of bytes in the unit that fits."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
