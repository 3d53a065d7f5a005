"""Devices are known by the names that people and drivers give them."""

import pytest

from igpt.errors import ConfigError
from igpt.hardware import KINDS, parse_devices, recognize


@pytest.mark.parametrize(
    ("text", "name", "count"),
    [("64xH100", "H100", 64), ("h100-pcie", "H100 PCIe", 1), ("3 x rtx 4090", "RTX 4090", 3)],
)
def test_devices_are_a_number_and_a_kind(text, name, count):
    assert parse_devices(text) == (KINDS[name], count)


def test_a_number_alone_leaves_the_kind_open():
    assert parse_devices("8") == (None, 8)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("4x4090", "RTX 4090"),
        ("8xH10", "did you mean 'H100'"),
        ("", "64xH100"),
        ("0xT4", "64xH100"),
    ],
)
def test_what_is_no_device_is_refused(text, hint):
    with pytest.raises(ConfigError, match=hint):
        parse_devices(text)


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100 40GB"), ("NVIDIA A100-SXM4-80GB", "A100"),
        ("Tesla T4", "T4"), ("NVIDIA GeForce RTX 4090", "RTX 4090"),
    ],
)  # fmt: skip
def test_a_device_is_recognized_by_its_drivers_name(driver, name):
    assert recognize(driver) is KINDS[name]


def test_what_is_not_known_is_not_guessed():
    assert recognize("NVIDIA GeForce RTX 4090 Laptop GPU") is None


def test_older_gpus_have_float16_and_bfloat16_only_at_the_speed_of_float32():
    assert KINDS["T4"].precision == "float16"
    assert KINDS["T4"].peak("bfloat16") == KINDS["T4"].float32 < KINDS["T4"].peak("float16")
    assert KINDS["H100"].precision == "bfloat16"


def test_devices_of_several_machines_have_the_bandwidth_of_the_network():
    kind = KINDS["H100"]
    assert kind.bandwidth(8) == kind.link > kind.bandwidth(9) == kind.network
