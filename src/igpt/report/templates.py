"""The templates of pages and of the model card, and how figures are written in all of them.

    template("page.jinja", escape=True).render(runs=runs)

A template that names something that is not given fails; it prints no gap.
"""

import base64
import functools
import json
import shlex

import jinja2

from igpt.values import to_dict


def template(name: str, *, escape: bool, folder: str = "report") -> jinja2.Template:
    """Return one of igpt's templates.

    Args:
        name: Its file name.
        escape: Whether what comes into it is escaped, as HTML needs it.
        folder: Where in igpt it lies.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("igpt", folder),
        autoescape=escape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        address=_address,
        count="{:,}".format,
        duration=_duration,
        json=functools.partial(json.dumps, indent=2),
        percent=_percent,
        plain=to_dict,
        quote=shlex.quote,
    )
    return environment.get_template(name)


def _address(png: bytes) -> str:
    """Return a PNG as the address of an image that lies in the page itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _percent(share: float | None, digits: int = 1) -> str:
    return "\N{EN DASH}" if share is None else f"{share:.{digits}%}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
