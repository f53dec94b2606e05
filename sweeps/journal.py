"""The journal of what was sent to SLURM: `slurm/jobs.jsonl` in the study folder.

It gets the intent (name, runs in order) before sbatch is called and the id after; where the id is missing, the job's
name finds it. So the launcher may die at any moment.
"""

from __future__ import annotations

from pathlib import Path

from scaling import schema

JOURNAL = "jobs.jsonl"


def submitted(out: Path) -> bool:
    """Whether a study folder has ever been on SLURM."""
    return (out / schema.SLURM / JOURNAL).exists()
