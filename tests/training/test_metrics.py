import errno
import json

import pytest
import torch

from igpt.errors import DataError
from igpt.training.metrics import MetricsFile, Progress, peak_flops, read_metrics


def test_resuming_drops_the_lines_after_the_state_and_a_cut_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": step / 7}) for step in range(5)]
    path.write_text("\n".join(lines) + '\n{"step": 5, "lo')
    metrics = MetricsFile(path, first_step=3)
    metrics.write({"step": 3, "loss": 1.0})
    metrics.close()
    read = read_metrics(path)
    assert [line["step"] for line in read] == [0, 1, 2, 3]
    assert read[1]["loss"] == 1 / 7  # to the last bit


def test_progress_tells_speed_and_no_mfu_on_an_unknown_device(capsys):
    progress = Progress(
        "run",
        steps=3,
        start=0,
        images_per_step=4,
        tokens_per_image=16,
        flops_per_token=100,
        device=torch.device("cpu"),
    )
    speeds = [progress.update(step, {"loss": 1.5}) for step in range(3)]
    progress.close()
    assert speeds[-1].keys() == {"images_per_second", "tokens_per_second"}
    assert abs(speeds[-1]["tokens_per_second"] / speeds[-1]["images_per_second"] - 16) < 1e-9
    told = capsys.readouterr().err
    assert "run: step 3/3 loss=1.5000" in told
    assert "MFU=n/a" in told


def test_mfu_is_the_flops_done_over_the_peak(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("igpt.training.metrics.time.monotonic", lambda: float(next(clock)))
    monkeypatch.setattr("igpt.training.metrics.peak_flops", lambda device: 64_000.0)
    progress = Progress(
        "run",
        steps=9,
        start=0,
        images_per_step=4,
        tokens_per_image=16,
        flops_per_token=100,
        device=torch.device("cpu"),
    )
    # One step a second: 64 tokens of 100 FLOP, a tenth of the peak.
    assert progress.update(0, {"loss": 1.0})["mfu"] == 0.1


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H100 NVL", None),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40", None),
        ("Tesla T4", 65e12),
        ("NVIDIA T400", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
    ],
)
def test_the_peak_is_that_of_this_very_device_or_unknown(monkeypatch, name, peak):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: name)
    assert peak_flops(torch.device("cuda")) == peak
    assert peak_flops(torch.device("cpu")) is None


def test_a_full_disk_is_one_line(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.jsonl", first_step=0)

    class Full:
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    metrics._file.close()
    metrics._file = Full()
    with pytest.raises(DataError, match=r"metrics\.jsonl: No space left .*; free some space"):
        metrics.write({"step": 0})
    metrics.close()
