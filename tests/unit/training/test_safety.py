"""One writer per folder; signals set a flag; memory errors say what to lower."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from maskwright.core.errors import MemoryShortage, RunFolderBusy
from maskwright.training.safety.interrupts import Interrupts
from maskwright.training.safety.lock import exclusive
from maskwright.training.safety.non_finite import memory_errors_explained

HOLDER = """
import sys, time
from pathlib import Path
from maskwright.training.safety.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_and_told_who_holds_the_folder(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderBusy, match=f"process {holder.pid}"), exclusive(tmp_path):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with exclusive(tmp_path):  # a killed process leaves no lock behind
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_sets_the_flag_and_handlers_are_put_back(number):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received == number
    assert signal.getsignal(number) == before


def test_out_of_memory_says_what_to_lower():
    with pytest.raises(MemoryShortage, match="micro_batch_tokens=2048"), memory_errors_explained(4096):
        torch.empty(2**60)
    with pytest.raises(RuntimeError, match="something else"), memory_errors_explained(4096):
        raise RuntimeError("something else")
