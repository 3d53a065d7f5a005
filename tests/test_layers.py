import ast
import subprocess
import sys
from pathlib import Path

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
    code = f"import sys, igpt.cli; print(*[m for m in {heavy} if m in sys.modules])"
    assert run_python(code) == []


def test_configs_need_no_torch():
    code = "import sys, igpt.model.config, igpt.training.config; print('torch' in sys.modules)"
    assert run_python(code) == ["False"]


def test_the_public_names_are_there_and_sorted():
    assert igpt.__all__ == sorted(igpt.__all__)
    for name in igpt.__all__:
        assert getattr(igpt, name) is not None
    assert dir(igpt) == igpt.__all__


def test_the_names_that_tools_see_are_those_that_are_there():
    tree = ast.parse(Path(igpt.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == igpt._PLACES
