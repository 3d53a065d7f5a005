"""What GPUs can do, by the figures of their makers; nothing here asks a device.

kind, count = parse_devices("64xH100")
kind.peak("bfloat16") * count
"""

import re
from dataclasses import dataclass
from typing import Literal

from igpt.errors import ConfigError, nearest_name

Arithmetic = Literal["float32", "bfloat16", "float16"]

_GIGA, _TERA = 10**9, 10**12


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One kind of device, and how it is usually wired to others."""

    name: str
    memory: int
    """Bytes."""
    float16: float
    """Dense 16-bit matrix peak, FLOP/s, without sparsity and with float32 accumulation."""
    float32: float
    """Peak of plain float32 arithmetic, FLOP/s; TF32, which igpt does not ask for, is none."""
    bfloat16: bool = True
    """Whether the 16-bit peak holds for bfloat16; or else for float16 alone."""
    link: float = 0.0
    """Bytes/s each way, of a device to the others in its machine."""
    network: float = 0.0
    """Bytes/s each way, of a device to other machines."""
    per_machine: int = 8
    """Devices in one machine."""
    is_gpu: bool = True
    reserved: int = 1_500_000_000
    """Bytes that no training gets: the driver's context, libraries' workspaces, gaps between what
    is allocated. An estimate."""

    def peak(self, precision: Arithmetic) -> float:
        """Return FLOP/s at a precision; in bfloat16 without its arithmetic, as in float32."""
        if precision == "float32" or (precision == "bfloat16" and not self.bfloat16):
            return self.float32
        return self.float16

    @property
    def precision(self) -> Arithmetic:
        """What `training.precision=auto` is on it."""
        if self.bfloat16:
            return "bfloat16"
        return "float16" if self.is_gpu else "float32"

    @property
    def usable(self) -> int:
        """Bytes that a training may take."""
        return max(0, self.memory - self.reserved)

    def bandwidth(self, devices: int) -> float:
        """Return bytes/s each way of the slowest link that so many devices have between them."""
        return self.link if devices <= self.per_machine else min(self.link, self.network)


def _gpu(
    name: str, gigabytes: int, teraflops: tuple[float, float], link: float,
    network: float = 12.5, *, bfloat16: bool = True,
) -> Hardware:  # fmt: skip
    return Hardware(
        name=name, memory=gigabytes * _GIGA, float16=teraflops[0] * _TERA,
        float32=teraflops[1] * _TERA, link=link * _GIGA, network=network * _GIGA, bfloat16=bfloat16,
    )  # fmt: skip


# Peaks and links are those of NVIDIA's data sheet of each device, as of 2026, halved where the
# sheet counts sparsity or both ways. NVLink both ways: B200 1,800 GB/s, H100 and H200 900, A100
# 600, V100 300; PCI Express with 16 lanes: generation 5 128, 4 64, 3 32. Networks are those of
# NVIDIA's DGX machines for each (a port of 400 Gbit/s a GPU, 200 for A100, four of 100 for eight
# V100), and for the others, which come in all kinds of machines, an assumption: 100 Gbit/s.
KINDS: dict[str, Hardware] = {
    kind.name: kind
    for kind in (
        _gpu("B200", 180, (2250.0, 75.0), 900.0, 50.0),
        _gpu("H200", 141, (989.0, 67.0), 450.0, 50.0),
        _gpu("H100 PCIe", 80, (756.0, 51.0), 64.0),
        _gpu("H100", 80, (989.0, 67.0), 450.0, 50.0),
        _gpu("A100 40GB", 40, (312.0, 19.5), 300.0, 25.0),
        _gpu("A100", 80, (312.0, 19.5), 300.0, 25.0),
        _gpu("L40S", 48, (362.0, 91.6), 32.0),
        _gpu("L4", 24, (121.0, 30.3), 32.0),
        _gpu("A10G", 24, (70.0, 31.2), 32.0),
        _gpu("RTX 4090", 24, (165.0, 82.6), 32.0),
        _gpu("RTX 3090", 24, (71.0, 35.6), 32.0),
        _gpu("V100", 32, (125.0, 15.7), 150.0, 6.25, bfloat16=False),
        _gpu("T4", 16, (65.0, 8.1), 16.0, bfloat16=False),
    )
}
"""Known devices by name; one whose name begins like another's comes before it."""

_IN_DRIVER = {"H100": "H100 80GB HBM3", "A100 40GB": r"A100-\w+-40GB"}
"""What the driver calls some of them; the H100 in other forms is slower."""


def recognize(device_name: str) -> Hardware | None:
    """Return the kind of a device by the name its driver gives it; None if it is not known."""
    for name, kind in KINDS.items():
        pattern = _IN_DRIVER.get(name, re.escape(name))
        if re.search(rf"\b{pattern}\b(?!.*Laptop)", device_name):
            return kind
    return None


def parse_devices(text: str) -> tuple[Hardware | None, int]:
    """Return the kind and the number of devices in a text such as `64xH100`, `T4` or `8`.

    Returns:
        None for the kind where the text has but a number.

    Raises:
        ConfigError: It has no such form, or no kind of that name is known.
    """
    parts = re.fullmatch(r"(\d{1,7})(?:\s*x\s*(.+))?|(\D.*)", text.strip(), re.IGNORECASE)
    if parts is None or int(parts[1] or 1) < 1:
        raise ConfigError(f"devices are given as in 64xH100, H100 or 8, got {text!r}")
    wanted, count = parts[2] or parts[3], int(parts[1] or 1)
    if wanted is None:
        return None, count
    for name, kind in KINDS.items():
        if _plain(name) == _plain(wanted):
            return kind, count
    raise ConfigError(
        f"there is no figure for a device {wanted!r}, unless --devices {count} --memory-gb, "
        f"--peak-tflops and --link-gbps give it{nearest_name(wanted, KINDS)}"
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
