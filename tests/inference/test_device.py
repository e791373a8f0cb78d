"""The probe against trees laid out as Linux lays them out; this machine's own are read as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from citrate.core.errors import ConfigError
from citrate.core.records import DeviceKind
from citrate.inference import limits
from citrate.inference.device import parse_device, probe

MB = 1 << 20


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


V2_MOUNT = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"


def test_a_limit_on_a_parent_cgroup_binds(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/session-1.scope",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/user.slice/memory.max": str(800 * MB),
            "sys/fs/cgroup/user.slice/memory.current": str(500 * MB),
            "sys/fs/cgroup/user.slice/memory.stat": f"anon {100 * MB}\ninactive_file {300 * MB}",
            "sys/fs/cgroup/user.slice/session-1.scope/memory.max": "max",
            "sys/fs/cgroup/user.slice/session-1.scope/memory.current": str(400 * MB),
        },
    )
    assert limits.cgroup_headroom_bytes(tmp_path) == 600 * MB
    assert limits.available_bytes(tmp_path) <= 600 * MB


def test_the_tightest_level_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/a/b",
            "proc/self/mountinfo": V2_MOUNT,
            "sys/fs/cgroup/a/memory.max": str(800 * MB),
            "sys/fs/cgroup/a/memory.current": "0",
            "sys/fs/cgroup/a/b/memory.max": str(700 * MB),
            "sys/fs/cgroup/a/b/memory.current": str(690 * MB),
        },
    )
    assert limits.cgroup_headroom_bytes(tmp_path) == 10 * MB


def test_a_container_that_sees_a_subtree_finds_its_limit_at_the_mount_point(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "12:memory:/docker/abc\n1:cpu:/docker/abc",
            "proc/self/mountinfo": "31 30 0:27 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": str(256 * MB),
            "sys/fs/cgroup/memory/memory.usage_in_bytes": str(200 * MB),
            "sys/fs/cgroup/memory/memory.stat": f"cache 1\ntotal_inactive_file {50 * MB}",
        },
    )
    assert limits.cgroup_headroom_bytes(tmp_path) == 106 * MB


def test_no_limit_anywhere_is_no_figure(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/",
            "proc/self/mountinfo": "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1",
        },
    )
    assert limits.cgroup_headroom_bytes(tmp_path) is None


def test_a_cgroup_that_is_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/", "proc/self/mountinfo": V2_MOUNT}
    files |= {"sys/fs/cgroup/memory.max": "10", "sys/fs/cgroup/memory.current": "20"}
    assert limits.available_bytes(write(tmp_path, files)) == 0


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"sys/fs/cgroup/a/cpu.max": "max 100000", "sys/fs/cgroup/cpu.max": "20000 100000"}, 1),
    ],
)
def test_a_quota_of_processors_binds_like_the_number_of_them(
    tmp_path: Path, files: dict[str, str], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    write(tmp_path, {"proc/self/cgroup": "0::/a", "proc/self/mountinfo": V2_MOUNT, **files})
    assert limits.usable_processors(tmp_path) == (expected or 64)


def test_a_quota_of_cgroup_v1_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    files = {"proc/self/cgroup": "3:cpu,cpuacct:/x\n2:memory:/"}
    files["proc/self/mountinfo"] = "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
    files["sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us"] = "400000"
    files["sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us"] = "100000"
    files["sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us"] = "-1"
    assert limits.usable_processors(write(tmp_path, files)) == 4


def test_an_amd_card_is_found_with_its_free_memory_and_architecture(tmp_path: Path) -> None:
    card = "sys/class/drm/card1/device"
    files = {f"{card}/vendor": "0x1002", f"{card}/mem_info_vram_total": "25753026560"}
    files |= {f"{card}/mem_info_vram_used": "753026560", f"{card}/product_name": "Radeon RX 7900 XTX"}
    files |= {f"{card}/drm/renderD129/dev": "226:129"}
    nodes = "sys/class/kfd/kfd/topology/nodes"
    files |= {f"{nodes}/0/properties": "cpu_cores_count 16\ngfx_target_version 0"}
    files |= {f"{nodes}/1/properties": "gfx_target_version 110000\ndrm_render_minor 129"}
    found = probe(write(tmp_path, files))
    assert (found.kind, found.arch, found.name) == (DeviceKind.AMD, "gfx1100", "Radeon RX 7900 XTX")
    assert found.memory_bytes == 25_000_000_000


def test_an_intel_card_with_memory_of_its_own_is_found(tmp_path: Path) -> None:
    files = {"sys/class/drm/card0/device/vendor": "0x8086", "sys/class/drm/card0/lmem_total_bytes": "17079205888"}
    found = probe(write(tmp_path, files))
    assert (found.kind, found.memory_bytes) == (DeviceKind.INTEL, 17_079_205_888)


def test_an_integrated_gpu_is_not_preferred_to_its_processor(tmp_path: Path) -> None:
    files = {"sys/class/drm/card0/device/vendor": "0x1002"}
    files |= {"sys/class/drm/card0/device/mem_info_vram_total": str(512 * MB)}
    files |= {"sys/class/drm/card1/device/vendor": "0x8086"}
    assert probe(write(tmp_path, files)).kind is DeviceKind.CPU


def test_this_machine_can_be_probed() -> None:
    here = probe()
    assert here.memory_bytes > 100 * MB


@pytest.mark.parametrize(
    ("given", "arch"), [("sm90", "sm90"), ("SM_90", "sm90"), ("9.0", "sm90"), ("12.0", "sm120"), ("", "")]
)
def test_an_nvidia_architecture_is_understood_as_people_write_it(given: str, arch: str) -> None:
    assert parse_device("nvidia", given, 80).arch == arch


def test_memory_is_in_decimal_gigabytes() -> None:
    assert parse_device("cpu", "", 15.5).memory_bytes == 15_500_000_000


@pytest.mark.parametrize(
    ("kind", "arch", "gb"),
    [("tpu", "", 8), ("nvidia", "gfx942", 8), ("amd", "sm90", 8), ("cpu", "x86", 8), ("cpu", "", 0), ("cpu", "", -1),
     ("cpu", "", float("nan")), ("cpu", "", float("inf"))],
)  # fmt: skip
def test_a_device_that_makes_no_sense_is_a_usage_error(kind: str, arch: str, gb: float) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_device(kind, arch, gb)
    assert caught.value.hint
