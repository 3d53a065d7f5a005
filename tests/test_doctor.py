import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

from igpt.doctor import Diagnosis, Finding, examine


def found(**options):
    return {finding.name: finding for finding in examine(**options).findings}


def test_versions_devices_and_choices_are_told():
    diagnosis = examine()
    findings = {finding.name: finding for finding in diagnosis.findings}
    assert diagnosis.well
    assert "numpy" in findings["packages"].value
    assert "GFLOP/s" in findings["threads"].value
    assert "float" in findings["would choose"].value
    assert "hub" not in findings  # the network is left alone
    assert diagnosis.table().endswith("nothing is wrong")


def test_a_wrong_finding_has_its_remedy_and_is_counted():
    wrong = Finding(name="torch", value="cannot be imported", state="wrong", remedy="install it")
    diagnosis = Diagnosis(findings=(wrong,))
    assert not diagnosis.well
    assert diagnosis.table() == "torch  cannot be imported  [wrong] install it\n1 wrong"


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "state"), [(10**7, "wrong"), (10**9, "note"), (10**11, "ok")])
def test_little_space_is_told(monkeypatch, free, state):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(free, 0, free))
    assert found()["disk"].state == state


def test_a_machine_without_a_compiler_is_well_but_told(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert found()["C++ compiler"].state == "note"
    assert "apt install g++" in found()["C++ compiler"].remedy


def test_threads_that_a_variable_limits_are_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3}, raising=False)
    assert "unset it if nothing else runs here" in found()["threads"].remedy
    monkeypatch.setattr("torch.get_num_threads", lambda: 9)
    assert "OMP_NUM_THREADS=4" in found()["threads"].remedy


def test_the_command_ends_with_one_where_torch_cannot_be_imported(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so is missing')")
    code = "from igpt.cli import main; import sys; main(sys.argv[1:])"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json"], cwd=tmp_path, capture_output=True,
        text=True, timeout=60, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 1
    (wrong,) = [row for row in json.loads(done.stdout)["findings"] if row["state"] == "wrong"]
    assert (wrong["name"], wrong["value"]) == (
        "torch",
        "cannot be imported: libtorch.so is missing",
    )
