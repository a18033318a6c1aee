"""The machine's cores, and memory and descriptors of a process; Linux only."""

import os
import platform
import resource
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def describe() -> str:
    """Return processor, cores, memory and Python in one line."""
    names = {line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")}
    memory = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    name = ", ".join(sorted(names)) or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory / 2**20:.0f} GiB, Python {platform.python_version()}"


def cores() -> tuple[int, int]:
    """Return a core for the server and another one for the load."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit(f"this process may use {len(usable)} core, 2 are needed: one for the server, one for the load")
    return usable[0], usable[1]


def peak_mib(pid: int) -> float:
    """Return a running process's peak of resident memory, in MiB."""
    peak = next(line for line in _lines(f"/proc/{pid}/status") if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def resident_mib(pid: int) -> float:
    """Return a running process's resident memory, in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def allow_descriptors(number: int) -> None:
    """Allow this process and its children this many open files and connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        raise SystemExit(f"this process may have {hard} files and connections open, {number} are needed: ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def descriptors(pid: int) -> int:
    """Return the number of a running process's open files and connections."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
