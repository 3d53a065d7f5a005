"""No change moves a figure unnoticed. One that is meant to runs `python -m tests.golden`."""

import json

from tests import golden


def leaves(value, path=""):
    """Yield every number or text in nested lists and objects, with where it stands."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}/{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{path}/{number}")
    else:
        yield path, value


def allowed(path, *, here):
    """Return by how much a figure may differ: not at all on the machine that wrote it."""
    if here:
        return 0.0
    return 1e-3 if path.startswith("/coefficients") else 1e-6  # rounding grows as the penalty falls


def test_the_figures_are_those_on_record(tmp_path):
    known = json.loads(golden.FILE.read_text())
    here = known.pop("machine") == golden.machine()
    found = dict(leaves(golden.measure(tmp_path)))
    wanted = dict(leaves(known))
    assert found.keys() == wanted.keys()
    moved = {
        path: (value, found[path])
        for path, value in wanted.items()
        if found[path] != value
        and (isinstance(value, str) or abs(found[path] - value) > allowed(path, here=here))
    }
    assert not moved
