"""igpt: generative pretraining from pixels.

    import igpt

    pretrained = igpt.load("runs/a")                        # network and tokenizer together
    tokens = pretrained.tokenizer.encode(["photo.jpg"])     # int64 (batch, position)
    logits = pretrained.model(tokens)                       # (batch, position, color)
    images = pretrained.tokenizer.decode(tokens)            # uint8 (batch, height, width, 3)
    found = pretrained.classify(["photo.jpg"])              # once it has a probe or a class head

`dir(igpt)` lists all there is, and `help(igpt.load)` explains one of it. Each command of `igpt` is
a thin caller of one of these functions:

    at once     start, quickstart
    images      prepare_store, fit_palette_file, read_image
    training    pretrain, finetune, resume, search_pretraining, search_finetuning
    measuring   evaluate_run, probe_run, few_labels_run, masks_run, along_run, outliers_run,
                passes_run
    photos      classify_files, similar_files
    features    write_features; ImageGPTFeatures and LinearProbe, estimators of scikit-learn's kind
    drawing     complete_files, sample_file, surprise_file
    the rest    write_report, reproduce, load, convert, push, info, verify

The public names are in `__init__.pyi`, where type checkers and editors look for them as well. They
are loaded when first used, so that `import igpt` costs nothing, nor does it to complete a name.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

with open(f"{__file__}i") as _stub:  # of lines such as: from igpt.formats.load import load as load
    _MODULES = {words[-1]: words[1] for line in _stub if (words := line.split())[:1] == ["from"]}


class _Package(ModuleType):
    """The package with a property for each public name: who only looks for names loads nothing."""

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("igpt")
        raise AttributeError(f"module 'igpt' has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted([*_MODULES, "__version__"])


def _public(name: str, module: str) -> property:
    def get(package: ModuleType) -> Any:
        if name not in vars(package):
            vars(package)[name] = getattr(import_module(module), name)
        return vars(package)[name]

    def put(package: ModuleType, value: Any) -> None:
        if not isinstance(value, ModuleType):  # a module of that name is no public name
            vars(package)[name] = value

    return property(get, put, lambda package: vars(package).pop(name))


for _name, _module in _MODULES.items():
    setattr(_Package, _name, _public(_name, _module))
sys.modules[__name__].__class__ = _Package
