import hashlib
import json

import pytest
import torch

from igpt.errors import CheckpointError, DataError
from igpt.training.metrics import MetricsFile, Progress, peak_flops, read_metrics, require_lines


def lines_of(count):
    return [json.dumps({"step": step, "loss": step / 7}) + "\n" for step in range(count)]


def test_resuming_drops_the_lines_after_the_state_and_a_cut_one(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(lines_of(5)) + '{"step": 5, "lo')
    metrics = MetricsFile(path, lines=3)
    metrics.write({"step": 3, "loss": 1.0})
    metrics.close()
    read = read_metrics(path)
    assert [line["step"] for line in read] == [0, 1, 2, 3]
    assert read[1]["loss"] == 1 / 7  # to the last bit
    assert metrics.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_cut_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = "".join(lines_of(3)).encode()
    ends = [number + 1 for number, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        complete = sum(end - 1 <= size for end in ends)  # a line that lacks its end alone is whole
        assert len(read_metrics(path)) == complete


@pytest.mark.parametrize(
    "damaged", ['{"step": 1, "lo', '{"step": 9, "loss": 1.0}', '{"step": 1, "loss": "1"}', "[1]",
                '{"step": 1.0}', '{"loss": 1.0}', "", "[" * 100_000, '{"step": 1, "loss": \udcff}'],
)  # fmt: skip
@pytest.mark.parametrize("after", [1, 0])
def test_any_other_damaged_line_is_told_by_its_number_and_all_are_kept(tmp_path, damaged, after):
    path = tmp_path / "metrics.jsonl"
    first, _, *others = lines_of(3)
    path.write_text("".join([first, damaged + "\n", *others[:after]]), errors="surrogateescape")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged: line 2 should hold"):
        read_metrics(path)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl is damaged: line 2 should hold"):
        MetricsFile(path, lines=1)
    assert path.read_bytes() == before


def test_lines_that_were_lost_or_changed_since_a_state_are_told(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(lines_of(3)))
    sha256 = hashlib.sha256("".join(lines_of(2)).encode()).hexdigest()
    assert require_lines(path, 2, sha256) == "".join(lines_of(2)).encode()
    with pytest.raises(CheckpointError, match=r"has 3 of the 4 lines that were written before"):
        require_lines(path, 4)
    path.write_text(path.read_text().replace("0.142857", "0.242857"))
    with pytest.raises(CheckpointError, match=r"was changed in its first 2 lines since"):
        require_lines(path, 2, sha256)
    with pytest.raises(CheckpointError, match=r"has 0 of the 1 lines"):
        require_lines(tmp_path / "none.jsonl", 1)


@pytest.mark.parametrize("harm", ["removed", "renamed", "replaced", "its folder renamed"])
def test_a_file_that_is_not_where_it_was_is_written_no_more(tmp_path, harm):
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write({"step": 0})
    kept = path
    if harm == "removed":
        path.unlink()
    elif harm == "renamed":
        kept = path.rename(folder / "old.jsonl")
    elif harm == "replaced":
        (folder / "other").write_text("mine")
        (folder / "other").replace(path)
    else:
        kept = folder.rename(tmp_path / "moved") / "metrics.jsonl"
    with pytest.raises(CheckpointError, match="was removed, renamed or replaced while"):
        metrics.write({"step": 1})
    metrics.close()
    contents = {"removed": None, "replaced": "mine"}.get(harm, '{"step": 0}\n')
    assert (kept.read_text() if kept.exists() else None) == contents
    assert folder.exists() == (harm != "its folder renamed")


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
    assert told.endswith(", less than a second left\n")
    assert "MFU" not in told


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


def test_a_disk_that_takes_no_more_is_one_line(tmp_path):
    resource = pytest.importorskip("resource")
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
    try:
        metrics.write({"step": 0})
        with pytest.raises(DataError, match=r"metrics\.jsonl: File too large; choose"):
            metrics.write({"step": 1})
        metrics.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 0}]
