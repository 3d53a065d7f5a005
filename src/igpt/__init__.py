"""igpt: generative pretraining from pixels.

    import igpt

    pretrained = igpt.load("runs/a")                # network and tokenizer together
    tokens = pretrained.tokenizer.encode(images)    # uint8 (batch, height, width, 3) -> int64
    logits = pretrained.model(tokens)               # (batch, position, color)
    images = pretrained.tokenizer.decode(tokens)

The public names are in `__init__.pyi`, where type checkers and editors look for them as well. They
are loaded when first used, so that `import igpt` costs nothing. Each command of `igpt` is a thin
caller of one of these functions.
"""

from functools import cache
from importlib import import_module
from typing import Any


@cache
def _modules() -> dict[str, str]:
    """Return the module of each public name, as the stub imports it."""
    import ast
    from pathlib import Path

    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text())
    imports = [statement for statement in stub.body if isinstance(statement, ast.ImportFrom)]
    return {alias.name: str(line.module) for line in imports for alias in line.names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("igpt")
    if name == "__all__":
        return sorted([*_modules(), "__version__"])
    if name not in _modules():
        raise AttributeError(f"module 'igpt' has no attribute {name!r}")
    return getattr(import_module(_modules()[name]), name)


def __dir__() -> list[str]:
    return __getattr__("__all__")
