"""What was measured once is not measured again, for the same machine and version alone, and never in the way."""

import json
import time

import pytest
import torch

import limbeck.system.devices as devices
from limbeck.system.remembered import cache_folder, remembered


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counted(values):
    calls = []

    def measure():
        calls.append(1)
        return values

    return measure, calls


def test_the_second_time_nothing_is_measured_and_another_key_is_another_machine(folder):
    measure, calls = counted({"float32": 2.0, "bf16": 1.0})
    for key, expected in (("one", 1), ("one", 1), ("two", 2), ("one", 2), ("two", 2)):
        assert remembered("rates", key, measure) == {"float32": 2.0, "bf16": 1.0}
        assert len(calls) == expected
    assert set(json.loads((folder / "rates.json").read_text())) == {"one", "two"}


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"one": 3}', '{"one": {}}', '{"one": {"bf16": "fast"}}',
                                  '{"one": {"bf16": -1}}', '{"one": {"bf16": NaN}}', "[" * 100_000])  # fmt: skip
def test_a_damaged_cache_is_none(folder, text):
    folder.mkdir()
    (folder / "rates.json").write_text(text)
    measure, calls = counted({"bf16": 1.0})
    assert remembered("rates", "one", measure) == {"bf16": 1.0} == remembered("rates", "one", measure)
    assert len(calls) == 1


def test_a_place_that_cannot_be_written_and_no_place_at_all(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for place in (str(tmp_path / "file" / "under"), "0", ""):
        monkeypatch.setenv("LIMBECK_CACHE", place)
        measure, calls = counted({"bf16": 1.0})
        assert remembered("rates", "one", measure) == {"bf16": 1.0} == remembered("rates", "one", measure)
        assert len(calls) == 2
    monkeypatch.delenv("LIMBECK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "limbeck"


def test_precision_is_measured_once_for_a_processor_a_version_and_a_number_of_threads(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "measure_precisions", lambda d: asked.append(d) or {"float32": 1.0, "bf16": 9.0})
    for _ in range(3):
        assert devices.find_device("cpu", "auto").precision == "bf16"
    assert asked == ["cpu"]
    for name, value in (("features", "other"), ("processor", "another")):
        found = {**devices.machine(), name: value}
        monkeypatch.setattr(devices, "machine", lambda found=found: found)
        devices.find_device("cpu", "auto")
    monkeypatch.setattr(torch, "__version__", "9.9")
    devices.find_device("cpu", "auto")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    devices.find_device("cpu", "auto")
    assert len(asked) == 5


def test_an_emulated_bf16_costs_under_a_third_of_a_second(monkeypatch):
    """Products of 1,024 rows at 0.9 GFLOP/s would take 2.4 seconds each; those of 256 take 0.04 and say enough."""
    spent = []

    class Slow:
        """Multiplies as a processor without bf16 does, and says how long that takes without waiting for it."""

        def __init__(self, size, kind):
            self.size, self.kind = size, kind

        def __matmul__(self, other):
            rate = 0.9e9 if self.kind is torch.bfloat16 else 89e9
            spent.append(2 * self.size**3 / rate)
            return self

        def __getitem__(self, place):
            return 1.0

    monkeypatch.setattr(torch, "ones", lambda rows, columns, dtype, device: Slow(rows, dtype))
    monkeypatch.setattr(time, "perf_counter", lambda: sum(spent))
    rates = devices.measure_precisions.__wrapped__("cpu")
    assert rates["bf16"] == pytest.approx(0.9e9) and rates["float32"] == pytest.approx(89e9)
    assert sum(spent) < 0.3
