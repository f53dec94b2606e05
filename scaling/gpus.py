"""GPUs by name, from NVIDIA's data sheets, and what is assumed of every one of them. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """Memory in bytes, dense bfloat16 peak in FLOPs/s, memory bandwidth in bytes/s."""

    memory: float
    peak: float
    bandwidth: float


GPUS = {
    "a100": Gpu(80e9, 312e12, 2.0e12),
    "h100": Gpu(80e9, 989e12, 3.35e12),
    "h200": Gpu(141e9, 989e12, 4.8e12),
    "b200": Gpu(180e9, 2250e12, 7.7e12),
    "b300": Gpu(270e9, 2250e12, 7.7e12),
}
HARDWARE_USE = 0.35  # of the peak (MFU)
BANDWIDTH_USE = 0.6
GPUS_A_HOST = 8  # where resources.gpus does not say
CONTEXT = 2e9  # bytes of CUDA context, libraries and communication buffers
FILLED = 0.95  # of a GPU's memory: the rest is lost to fragments
SAMPLING_BYTES = 22  # of a logit while a token is drawn (float64 cumulative sum)
