"""Fixtures and settings that every test shares."""

import os

# Before torch is imported anywhere: one thread per process, as in every run, and no hub.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("MLFLOW_TRACKING_URI", None)
