"""Energy: measured by a fake codecarbon, estimated without it, and never one for the other."""

import logging
import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from maskwright.core.records.run import EnergyRecord, EngineRecord
from maskwright.training.recipe.sections import EnergyConfig
from maskwright.training.watching import energy
from maskwright.training.watching.energy import EnergyMeter, energy_meter


class FakeTracker:
    """What codecarbon's offline tracker does, with a fixed answer."""

    kwh: float = 0.25
    started: dict[str, object] | None = None

    def __init__(self, **settings: object) -> None:
        FakeTracker.started = settings

    def start(self) -> None:
        """Begin."""

    def stop(self) -> float:
        self.final_emissions_data = SimpleNamespace(energy_consumed=self.kwh)
        return 99.0


@pytest.fixture
def codecarbon(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    """A module codecarbon."""
    module = ModuleType("codecarbon")
    module.__spec__ = SimpleNamespace(name="codecarbon")  # type: ignore[assignment]
    module.OfflineEmissionsTracker = FakeTracker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    monkeypatch.setattr(FakeTracker, "kwh", 0.25)
    monkeypatch.setattr(FakeTracker, "started", None)
    return FakeTracker


@pytest.fixture
def no_codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without codecarbon."""
    monkeypatch.setattr(energy.importlib.util, "find_spec", lambda name: None)


def measured(meter: EnergyMeter, seconds: float, before: EnergyRecord | None = None) -> EnergyRecord:
    """Return the record of a session that took so long."""
    with meter:
        meter._begin -= seconds
    return meter.record(before)


def test_codecarbon_measures_offline_and_quietly(codecarbon: type[FakeTracker]):
    record = measured(EnergyMeter(EnergyConfig(), num_gpus=0, num_machines=2), 60)
    assert record.how == "measured by codecarbon"
    assert record.kwh == 0.5
    assert record.kg_co2 == pytest.approx(0.5 * 0.475)
    assert record.seconds == pytest.approx(60, abs=5)
    assert any("the first of 2 machines" in words for words in record.assumptions)
    assert codecarbon.started is not None
    assert codecarbon.started["output_methods"] == []
    assert codecarbon.started["log_level"] == logging.CRITICAL


def test_without_codecarbon_an_estimate_says_what_it_assumes(no_codecarbon: None):
    config = EnergyConfig(processor_watts=100, gpu_watts=200, kg_co2_per_kwh=0.1, intensity_source="of the test")
    record = measured(EnergyMeter(config, num_gpus=2, num_machines=1), 3600)
    assert record.how == "estimated"
    assert record.kwh == pytest.approx(0.5, rel=0.01)
    assert record.kg_co2 == pytest.approx(0.05, rel=0.01)
    assert record.assumptions == [
        "assumed: 100 W for the processor and 200 W for each of 2 GPUs (set in the recipe), all the time; "
        "memory and cooling left out",
        "0.1 kg of CO2 per kWh, of the test",
    ]


def test_what_codecarbon_could_not_measure_is_estimated_and_said_to_be(codecarbon: type[FakeTracker]):
    codecarbon.kwh = 0.0
    assert measured(EnergyMeter(EnergyConfig(), 0, 1), 60).how == "estimated"


def test_sessions_are_summed_up_and_one_estimate_makes_all_an_estimate(codecarbon: type[FakeTracker]):
    first = measured(EnergyMeter(EnergyConfig(), 0, 1), 60)
    both = measured(EnergyMeter(EnergyConfig(), 0, 1), 30, first)
    assert (both.kwh, both.how) == (0.5, "measured by codecarbon")
    assert both.seconds == pytest.approx(90, abs=5)
    assert both.assumptions == first.assumptions
    codecarbon.kwh = 0.0
    assert measured(EnergyMeter(EnergyConfig(), 0, 1), 30, both).how == "estimated"


def test_an_interrupted_session_counts(no_codecarbon: None):
    meter = EnergyMeter(EnergyConfig(), 0, 1)
    with pytest.raises(KeyboardInterrupt), meter:
        time.sleep(0.01)
        raise KeyboardInterrupt
    assert meter.record(None).kwh > 0


@pytest.mark.parametrize(("answer", "watts"), [("700.00\n700.00\n", 700.0), ("[N/A]\n", 300.0), (None, 300.0)])
def test_the_power_of_a_gpu_is_the_drivers_limit(monkeypatch: pytest.MonkeyPatch, answer: str | None, watts: float):
    def run(*command: object, **options: object) -> SimpleNamespace:
        if answer is None:
            raise FileNotFoundError("nvidia-smi")
        return SimpleNamespace(stdout=answer)

    monkeypatch.setattr(energy.subprocess, "run", run)
    found, why = energy._gpu_watts(EnergyConfig())
    assert found == watts
    assert why == ("the driver's limit" if watts == 700 else "the driver does not tell")


def test_machines_are_counted_from_torchrun(monkeypatch: pytest.MonkeyPatch, no_codecarbon: None):
    engine = EngineRecord(
        device="cpu", dtype="float32", attention="padded", compiled=False, num_ranks=4, matmul_flops_per_second=1.0
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    record = measured(energy_meter(EnergyConfig(processor_watts=50), engine), 3600)
    assert record.kwh == pytest.approx(0.1, rel=0.01)
    assert "of each of 2 machines" in record.assumptions[0]
