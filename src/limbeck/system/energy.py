"""Energy that the machine says it used: by the processor's counters (RAPL) and those of NVIDIA's cards."""

__all__ = ["EnergyMeter"]

import ctypes
from collections.abc import Callable
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")
_MICRO, _MILLI = 1e-6, 1e-3


class EnergyMeter:
    """Joules since it was last asked, of the whole machine as far as it counts them, whatever else runs on it.

    Linux lets the administrator alone read the processor's counters on most machines; then nothing is known.

    Args:
        powercap: The folder of the processor's counters.

    Example:
        >>> spent = EnergyMeter().spent()
        >>> spent is None or spent >= 0
        True
    """

    def __init__(self, powercap: Path = _POWERCAP) -> None:
        self._counters = [*_packages(powercap), *_cards()]
        self._before = [read() for read, _ in self._counters]

    def spent(self) -> float | None:
        """Joules since the last call, or since it was made; None where the machine tells nothing."""
        total, known = 0.0, False
        for place, (read, most) in enumerate(self._counters):
            before, now = self._before[place], read()
            self._before[place] = now
            if before is None or now is None:
                continue
            known = True
            total += now - before if now >= before else now - before + most  # the counter began anew
        return total if known else None


def _packages(powercap: Path) -> list[tuple[Callable[[], float | None], float]]:
    """A counter for each processor package, with its largest value: zones such as ``intel-rapl:0``, not their parts."""
    found: list[tuple[Callable[[], float | None], float]] = []
    try:
        zones = sorted(zone for zone in powercap.iterdir() if zone.name.count(":") == 1)
    except OSError:
        return []
    for zone in zones:

        def read(path: Path = zone / "energy_uj") -> float | None:
            try:
                return int(path.read_text()) * _MICRO
            except (OSError, ValueError):
                return None

        try:
            most = int((zone / "max_energy_range_uj").read_text()) * _MICRO
        except (OSError, ValueError):
            most = 0.0
        if read() is not None and "psys" not in _name(zone):  # psys counts the packages once more
            found.append((read, most))
    return found


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text()
    except OSError:
        return ""


def _cards() -> list[tuple[Callable[[], float | None], float]]:
    """A counter for each NVIDIA card, by the driver's own library."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        count = ctypes.c_uint()
        if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
    except (OSError, AttributeError):
        return []
    found: list[tuple[Callable[[], float | None], float]] = []
    for number in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)):
            continue

        def read(handle: ctypes.c_void_p = handle) -> float | None:
            value = ctypes.c_ulonglong()
            failed = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value))
            return None if failed else value.value * _MILLI

        if read() is not None:
            found.append((read, 0.0))
    return found
