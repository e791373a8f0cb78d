"""What this machine is, as far as choosing a variant needs to know."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import subprocess
from dataclasses import replace
from pathlib import Path

from citrate.core.errors import ConfigError
from citrate.core.records import Device, DeviceKind, Format
from citrate.inference.limits import available_bytes

GB = 10**9
"""The unit of ``--memory-gb`` and of every message."""

_METAL_SHARE = 0.75
"""The part of its memory that macOS lets the GPU wire by default (``recommendedMaxWorkingSetSize``)."""

_LEAST_GPU_BYTES = 2 * GB
"""A GPU with less memory of its own is an integrated one: it computes in the same memory as the CPU."""

_PCI_VENDORS = {"0x1002": DeviceKind.AMD, "0x8086": DeviceKind.INTEL}
_VRAM_FILES = ("device/mem_info_vram_total", "lmem_total_bytes")
"""Relative to ``/sys/class/drm/card*``: what amdgpu and i915 call the GPU's own memory."""


def probe(root: Path = Path("/")) -> Device:
    """Describe this machine: Apple silicon, else an NVIDIA, AMD or Intel GPU, else the CPU.

    Memory is what is free now: of the GPU with the most of it, else what the operating system and the cgroups leave.

    Args:
        root: where ``sys`` and ``proc`` are, other than ``/`` only in tests.
    """
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return _apple(root)
    gpus = [*_nvidia(), *_sysfs_gpus(root)]
    if gpus:
        best = max(gpus, key=lambda gpu: (gpu.kind is DeviceKind.NVIDIA, gpu.memory_bytes))
        return replace(best, lacks=frozenset() if has_tensorrt_llm() else frozenset({Format.TENSORRT_LLM}))
    return Device(DeviceKind.CPU, available_bytes(root), name=platform.machine())


def has_tensorrt_llm() -> bool:
    """Whether TensorRT-LLM is installed where this Python looks; nothing is imported."""
    return importlib.util.find_spec("tensorrt_llm") is not None


def parse_device(kind: str, arch: str = "", memory_gb: float | None = None) -> Device:
    """The device that ``--device KIND --arch ARCH --memory-gb X`` describes.

    Without ``memory_gb`` it is this machine's: the GPU's if it is of that kind, else what this process may use.

    Raises:
        ConfigError: an unknown kind, an architecture that does not belong to it, or memory that is not positive.
    """
    if kind not in list(DeviceKind):
        raise ConfigError(f"unknown device {kind!r}", hint=f"devices: {', '.join(DeviceKind)}")
    wanted = DeviceKind(kind)
    arch = _check_arch(wanted, arch)
    if memory_gb is not None:
        if not 0 < memory_gb < 1e6:
            raise ConfigError(f"memory of {memory_gb:g} GB is not a size", hint="give it in GB, such as --memory-gb 16")
        return Device(wanted, int(memory_gb * GB), arch)
    here = probe()
    if here.kind is wanted:
        lacks = here.lacks if arch in ("", here.arch) else frozenset()
        return Device(wanted, here.memory_bytes, arch or here.arch, here.name, lacks)
    return Device(wanted, available_bytes(), arch)


def _check_arch(kind: DeviceKind, arch: str) -> str:
    """``sm_90``, ``9.0`` and ``SM90`` all mean ``sm90``."""
    if not arch:
        return ""
    text = arch.lower().replace("_", "")
    if re.fullmatch(r"\d{1,2}\.\d", text):
        text = "sm" + text.replace(".", "")
    pattern = {DeviceKind.NVIDIA: r"sm\d{2,3}[af]?", DeviceKind.AMD: r"gfx[0-9a-f]{3,4}"}.get(kind)
    if pattern is None:
        raise ConfigError(
            f"--arch means nothing for {kind}", hint="leave it out; it is for nvidia (sm90) and amd (gfx942)"
        )
    if not re.fullmatch(pattern, text):
        example = "sm90" if kind is DeviceKind.NVIDIA else "gfx942"
        raise ConfigError(f"{arch!r} is not an architecture of {kind}", hint=f"write it as {example}")
    return text


def _apple(root: Path) -> Device:
    import psutil

    answer = subprocess.run(
        ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
    )
    usable = min(available_bytes(root), int(psutil.virtual_memory().total * _METAL_SHARE))
    return Device(DeviceKind.APPLE_SILICON, usable, name=answer.stdout.strip() or "Apple silicon")


def _nvidia() -> list[Device]:
    """The NVIDIA GPUs that this process may use; none without the driver or `nvidia-ml-py`."""
    try:
        import pynvml
    except ImportError:
        return []
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        return [_nvidia_device(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in _visible(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []  # the driver is there but lets nobody ask: as good as no GPU
    finally:
        pynvml.nvmlShutdown()


def _nvidia_device(handle: object) -> Device:
    import pynvml

    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    free = int(pynvml.nvmlDeviceGetMemoryInfo(handle).free)
    return Device(DeviceKind.NVIDIA, free, f"sm{major}{minor}", name if isinstance(name, str) else name.decode())


def _visible(count: int) -> list[int]:
    """The GPU numbers that ``CUDA_VISIBLE_DEVICES`` leaves (as CUDA reads it: up to the first that is no number)."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None or setting.upper().startswith(("GPU-", "MIG-")):
        return list(range(count))  # named by UUID: any of them may be meant, NVML's order is as good
    visible = []
    for part in setting.split(","):
        if not part.strip().isdigit() or int(part) >= count:
            break
        visible.append(int(part))
    return visible


def _sysfs_gpus(root: Path) -> list[Device]:
    """AMD and Intel GPUs that have memory of their own."""
    found = []
    for card in sorted((root / "sys/class/drm").glob("card[0-9]*")):
        kind = _PCI_VENDORS.get(_read(card / "device/vendor"))
        sizes = [int(text) for name in _VRAM_FILES if (text := _read(card / name)).isdigit()]
        if kind is None or not sizes or max(sizes) < _LEAST_GPU_BYTES:
            continue
        used = _read(card / "device/mem_info_vram_used")
        free = max(sizes) - (int(used) if used.isdigit() else 0)
        arch = _gfx(root, card) if kind is DeviceKind.AMD else ""
        found.append(Device(kind, free, arch, _read(card / "device/product_name")))
    return found


def _gfx(root: Path, card: Path) -> str:
    """The ``gfx`` name of an AMD card, from the compute driver's topology: 90402 is gfx942, 100300 gfx1030."""
    minors = {entry.name.removeprefix("renderD") for entry in (card / "device/drm").glob("renderD*")}
    for node in sorted((root / "sys/class/kfd/kfd/topology/nodes").glob("*/properties")):
        properties = dict(line.split(" ", 1) for line in _read(node).splitlines() if " " in line)
        version = int(properties.get("gfx_target_version", "0"))
        if version and properties.get("drm_render_minor") in minors:
            return f"gfx{version // 10_000}{version // 100 % 100:x}{version % 100:x}"
    return ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
