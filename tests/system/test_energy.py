"""Energy is what the machine's counters say, through their wrap-around, and unknown where they say nothing."""

import pytest

from limbeck.system import energy
from limbeck.system.energy import EnergyMeter


@pytest.fixture
def zones(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_cards", list)
    for name, label, value in (("intel-rapl:0", "package-0", 5_000_000), ("intel-rapl:1", "package-1", 0),
                               ("intel-rapl:0:0", "core", 9), ("intel-rapl:2", "psys", 7)):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(label + "\n")
        (tmp_path / name / "energy_uj").write_text(f"{value}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("100000000\n")
    return tmp_path


def test_packages_are_added_up_and_their_parts_are_not(zones):
    meter = EnergyMeter(zones)
    assert meter.spent() == 0
    (zones / "intel-rapl:0" / "energy_uj").write_text("8000000")
    (zones / "intel-rapl:1" / "energy_uj").write_text("500000")
    (zones / "intel-rapl:0:0" / "energy_uj").write_text("999999999")
    (zones / "intel-rapl:2" / "energy_uj").write_text("999999999")
    assert meter.spent() == pytest.approx(3.5)
    assert meter.spent() == 0


def test_a_counter_that_begins_anew(zones):
    meter = EnergyMeter(zones)
    (zones / "intel-rapl:0" / "energy_uj").write_text("1000000")
    assert meter.spent() == pytest.approx(100 - 5 + 1)


def test_a_machine_that_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "_cards", list)
    assert EnergyMeter(tmp_path / "none").spent() is None
    (tmp_path / "intel-rapl:0").mkdir()
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("secret")
    assert EnergyMeter(tmp_path).spent() is None
