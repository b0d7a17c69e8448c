"""How much energy training took and how much CO2 that is: measured by codecarbon where it is installed, else estimated.

An estimate is time x power x carbon intensity, each stated in words in the record and set in the recipe (`energy`).
Codecarbon runs offline: no network, no file, no log.
"""

import importlib.util
import logging
import os
import subprocess
import time
from types import TracebackType
from typing import Any, Self

from maskwright.core.log import is_first_rank
from maskwright.core.optional import load_optional
from maskwright.core.records.run import EnergyRecord, EngineRecord
from maskwright.training.recipe.sections import EnergyConfig

JOULES_PER_KWH = 3.6e6

ASSUMED_GPU_WATTS = 300.0
"""Of a GPU whose driver doesn't tell its limit."""


class EnergyMeter:
    """Measures what is done inside its `with` block; several sessions of a run are summed up."""

    def __init__(self, config: EnergyConfig, num_gpus: int, num_machines: int) -> None:
        """Take what the machine is.

        Args:
            config: power and carbon intensity where they can't be measured.
            num_gpus: in use, on all machines together.
            num_machines: of the run; the first is taken to stand for all.
        """
        self._config, self._num_gpus, self._num_machines = config, num_gpus, num_machines
        self._tracker: Any = None
        self._begin = self._seconds = 0.0
        self._measured_kwh: float | None = None

    def __enter__(self) -> Self:
        """Begin."""
        if is_first_rank() and importlib.util.find_spec("codecarbon") is not None:
            self._tracker = _new_tracker()
            self._tracker.start()
        self._begin = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, also where training was interrupted."""
        self._seconds = time.monotonic() - self._begin
        if self._tracker is not None:
            self._tracker.stop()
            # Codecarbon swallows its own errors: what it could not measure is not there.
            found = getattr(self._tracker, "final_emissions_data", None)
            if found is not None and found.energy_consumed > 0:
                self._measured_kwh = float(found.energy_consumed) * self._num_machines

    def record(self, before: EnergyRecord | None) -> EnergyRecord:
        """Return the energy of this session and those before.

        Args:
            before: what the run's record has of sessions before this one.
        """
        kwh, assumptions = self._measured_kwh, self._machines_in_words()
        if kwh is None:
            kwh, watts_in_words = self._estimate()
            assumptions = [watts_in_words]
        intensity = self._config.kg_co2_per_kwh
        assumptions.append(f"{intensity:g} kg of CO2 per kWh, {self._config.intensity_source}")
        now = EnergyRecord(
            kwh=kwh,
            kg_co2=kwh * intensity,
            how="estimated" if self._measured_kwh is None else "measured by codecarbon",
            seconds=self._seconds,
            assumptions=assumptions,
        )
        return now if before is None else _sum(before, now)

    def _estimate(self) -> tuple[float, str]:
        """Return kWh, and the power that was assumed."""
        config = self._config
        watts = config.processor_watts * self._num_machines
        words = f"{config.processor_watts:g} W for the processor"
        if self._num_machines > 1:
            words += f" of each of {self._num_machines} machines"
        if self._num_gpus:
            gpu_watts, why = _gpu_watts(config)
            watts += gpu_watts * self._num_gpus
            words += f" and {gpu_watts:g} W for each of {self._num_gpus} GPUs ({why})"
        return watts * self._seconds / JOULES_PER_KWH, f"assumed: {words}, all the time; memory and cooling left out"

    def _machines_in_words(self) -> list[str]:
        words = ["the whole machine; where codecarbon may not read a counter, it estimates by the processor's model"]
        if self._num_machines > 1:
            words.append(f"the first of {self._num_machines} machines stands for all")
        return words


def energy_meter(config: EnergyConfig, engine: EngineRecord) -> EnergyMeter:
    """Return the meter of a run on this machine, shared with the other processes that torchrun started."""
    num_gpus = engine.num_ranks if engine.device.startswith("cuda") else 0
    num_machines = max(1, engine.num_ranks // int(os.environ.get("LOCAL_WORLD_SIZE", engine.num_ranks)))
    return EnergyMeter(config, num_gpus, num_machines)


def _new_tracker() -> Any:
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # it speaks before it reads `log_level`
    return load_optional("codecarbon").OfflineEmissionsTracker(
        country_iso_code="USA",  # it wants one; its carbon is not used
        output_methods=[],
        allow_multiple_runs=True,  # without a lock file, whose signal handlers would stand before ours
        log_level=logging.CRITICAL,
    )


def _gpu_watts(config: EnergyConfig) -> tuple[float, str]:
    """Return the power of a GPU and where it is from: the recipe, the driver's limit, or a plain assumption."""
    if config.gpu_watts is not None:
        return config.gpu_watts, "set in the recipe"
    ask = ["nvidia-smi", "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=30).stdout
        return float(answer.splitlines()[0]), "the driver's limit"
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return ASSUMED_GPU_WATTS, "the driver does not tell"


def _sum(before: EnergyRecord, now: EnergyRecord) -> EnergyRecord:
    """Return both sessions together: measured only where both were."""
    is_measured = before.how == now.how == "measured by codecarbon"
    return EnergyRecord(
        kwh=before.kwh + now.kwh,
        kg_co2=before.kg_co2 + now.kg_co2,
        how="measured by codecarbon" if is_measured else "estimated",
        seconds=before.seconds + now.seconds,
        assumptions=list(dict.fromkeys([*before.assumptions, *now.assumptions])),
    )
