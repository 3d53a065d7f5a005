"""What tests of the page do in a browser."""

import base64
import io
from contextlib import contextmanager

import numpy as np
from PIL import Image


class opened:
    """A page that is looked at, in a window of its own."""

    def __init__(self, browser, address, *, width=1200, scheme="light", bypass_csp=False):
        self._context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=bypass_csp
        )
        self._address = address
        self._wrong = []

    def __enter__(self):
        page = self._context.new_page()
        page.on("pageerror", lambda error: self._wrong.append(str(error)))
        page.on("request", lambda request: self._from_elsewhere(request.url))
        page.goto(self._address)
        page.get_by_text("Choose a picture, or press Draw").wait_for()
        return page

    def __exit__(self, kind, *_):
        self._context.close()
        if kind is None:
            assert self._wrong == []

    def _from_elsewhere(self, url):
        if not url.startswith((self._address, "blob:")):
            self._wrong.append(f"asks for {url}")


def bring(page, content, name, event):
    """Have a file come to the page by an event whose `data` it is."""
    page.evaluate(
        """([text, name]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name));
            document.dispatchEvent(EVENT);
        }""".replace("EVENT", event),
        [base64.b64encode(content).decode(), name],
    )


def drop(page, content, name="cat.png"):
    """Drop a file onto the page, as from the desktop."""
    bring(page, content, name, "new DragEvent('drop', { dataTransfer: data })")


def panel(page, name):
    return page.locator(".panel", has=page.get_by_role("heading", name=name, exact=True))


def drawn_in(page, name="a"):
    panel(page, name).get_by_text("Drawn in").wait_for()


@contextmanager
def held(page, pattern):
    """Have requests wait for their answer until the block ends."""
    requests = []

    def hold(route):
        requests.append(route)

    page.route(pattern, hold)
    yield
    for route in requests:
        route.continue_()
    page.unroute(pattern)


def ended(page, end):
    """Expect the page to end a request whose address ends so, before its answer."""
    return page.expect_event("requestfailed", lambda one: one.url.endswith(end))


def pixels(canvas):
    """Return what a canvas shows, (height, width, 4)."""
    png = canvas.evaluate("canvas => canvas.toDataURL('image/png')").partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))
