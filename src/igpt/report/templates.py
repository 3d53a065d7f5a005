"""The templates of pages and of the model card, and how figures are written in all of them.

    template("page.jinja", escape=True).render(runs=runs)

A template that names something that is not given fails; it prints no gap.
"""

import base64
import functools
import json
import shlex

import jinja2
from markupsafe import Markup

from igpt.amounts import counted, spoken
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
        counted=counted,
        duration=spoken,
        json=functools.partial(json.dumps, indent=2),
        percent=percent,
        plain=to_dict,
        quote=shlex.quote,
        words=_words,
    )
    return environment.get_template(name)


def _address(png: bytes) -> str:
    """Return a PNG as the address of an image that lies in the page itself."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a table has it, or a dash for what is not known."""
    return "\N{EN DASH}" if share is None else f"{share:.{digits}%}"


def _words(command: str) -> Markup:
    """Return a command as markup whose words a page need not break."""
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in command.split(" "))
