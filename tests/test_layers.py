import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import igpt


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_each_layer_imports_only_from_those_below_it():
    lint = Path(sys.executable).with_name("lint-imports")
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [lint, "--no-cache"], cwd=root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_help_needs_neither_torch_nor_numpy():
    heavy = ("torch", "numpy", "datasets", "sklearn", "scipy", "matplotlib", "PIL")
    code = (
        "import contextlib, io, sys, igpt.cli\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    igpt.cli.app()(['--help'])\n"
        "    igpt.cli.app()(['complete', '--help'])\n"
        f"print(*[m for m in {heavy} if m in sys.modules])"
    )
    assert run_python(code) == []


def test_the_library_costs_nothing_until_it_is_used():
    code = "import sys, igpt; print(*[m for m in ('ast', 'torch', 'email') if m in sys.modules])"
    assert run_python(code) == []


def test_configs_need_no_torch():
    code = (
        "import sys, igpt.data.config, igpt.model.config, igpt.training.config\n"
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    assert run_python(code) == ["False", "False"]


def test_the_public_names_are_there_and_sorted():
    assert dir(igpt) == sorted(dir(igpt))
    wanted = {"along_run", "few_labels_run", "masks_run", "outliers_run", "quickstart",
              "read_image", "ImageGPTFeatures", "LinearProbe"}  # fmt: skip
    assert wanted <= set(dir(igpt))
    for name in dir(igpt):
        assert getattr(igpt, name) is not None


def test_completing_a_name_loads_nothing():
    code = (
        "import sys, rlcompleter, igpt\n"
        "complete = rlcompleter.Completer({'igpt': igpt}).complete\n"
        "print(complete('igpt.pretr', 0), 'torch' in sys.modules)"
    )
    assert run_python(code) == ["igpt.pretrain", "False"]


def test_a_function_is_found_under_its_name_though_a_module_has_the_same():
    code = (
        "import importlib, igpt\n"
        "for _ in range(2):\n"
        "    print(igpt.quickstart.__name__)\n"
        "    importlib.import_module('igpt.quickstart')\n"
    )
    assert run_python(code) == ["quickstart", "quickstart"]


def test_public_names_can_be_replaced_in_tests_and_put_back(monkeypatch):
    load = igpt.load
    with monkeypatch.context() as patch:
        patch.setattr(igpt, "load", len)
        assert igpt.load is len
    assert igpt.load is load


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'igpt' has no attribute 'nothing'"):
        _ = igpt.nothing


def test_help_on_the_package_is_a_page_or_two():
    """It tells what there is; pydoc would print every function in full, were there an `__all__`."""
    text = pydoc.plain(pydoc.render_doc(igpt))
    assert text.count("\n") < 100
    assert "probe_run" in text
