"""Where runs are carried out: one file an executor. What they carry out is in `sweeps/payloads.py`."""
