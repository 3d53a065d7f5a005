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
    assert igpt.__all__ == sorted(igpt.__all__)
    assert "probe_run" in igpt.__all__
    for name in igpt.__all__:
        assert getattr(igpt, name) is not None
    assert dir(igpt) == igpt.__all__
