"""A run whose grader depends on the process, for tests/test_parallel.py: as one of two processes.

    grading_worker.py differs|raises RUN.yaml FOLDER

Writes FOLDER.N.jsonl in process N: of each update the sum of its advantages and rewards, to the last bit.
"""

import json
import os
import sys
from pathlib import Path

from scaling import trainer
from scaling.config.reading import load_config
from scaling.rollout_types import Grade
from scaling.tasks.hex_chain import Task

RANK = int(os.environ["RANK"])


def main(rule: str, config: Path, folder: Path) -> None:
    graded, original = 0, trainer.update_policy

    def grade_text(task, problem: str, response: str) -> Grade:
        nonlocal graded
        graded += 1
        if rule == "raises" and RANK == 1 and graded > 20:
            raise ConnectionRefusedError("Connection refused: the judge of process 1 is gone")
        correct = (len(response) + RANK) % 2 == 0
        return Grade(float(correct), correct)

    def update_policy(policy, optimizer, rollouts, advantage_PG, *rest):
        with open(f"{folder}.{RANK}.jsonl", "a") as file:
            row = {"advantages": advantage_PG.tolist(), "tokens": rollouts.tokens_BT.tolist(), "graded": graded}
            file.write(json.dumps(row) + "\n")
        return original(policy, optimizer, rollouts, advantage_PG, *rest)

    Task.grade_text, trainer.update_policy = grade_text, update_policy
    trainer.train_run(load_config(config), folder, folder / "artifacts")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)  # as scaling/__main__.py: torch's own threads may abort the interpreter's shutdown
