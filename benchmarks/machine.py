"""This machine's cores, and what a process on it has used; Linux only."""

import os
import platform
import resource
from pathlib import Path

TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024


def describe() -> str:
    """Processor, cores, memory and Python, in one line."""
    names = {line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")}
    memory = next(int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal"))
    name = ", ".join(sorted(names)) or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory / 2**20:.0f} GiB, Python {platform.python_version()}"


def cores() -> tuple[int, int]:
    """A core for what is measured and another for the load."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit(f"this process may use {len(usable)} core, 2 are needed: one for the server, one for the load")
    return usable[0], usable[1]


def peak_mib(pid: int) -> float:
    """The most memory that a running process ever had in use."""
    peak = next(line for line in _lines(f"/proc/{pid}/status") if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


def resident_mib(pid: int) -> float:
    """The memory that a running process has in use now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def allow_descriptors(number: int) -> None:
    """Let this process, and those that it starts, have so many files and connections open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < number:
        raise SystemExit(f"this process may have {hard} files and connections open, {number} are needed: ulimit -Hn")
    if soft != resource.RLIM_INFINITY and soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))


def descriptors(pid: int) -> int:
    """How many files and connections a running process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
