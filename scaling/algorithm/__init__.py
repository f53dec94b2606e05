"""What makes an update of a batch of rollouts: rewards, advantages, the loss, the optimizer steps."""

from __future__ import annotations

import functools
from pathlib import Path

from scaling.fields import defined


@functools.cache
def surrogate_names() -> list[str]:
    """What `loss.surrogate` may be: NAME of each function `NAME_surrogate` of losses.py."""
    return list(dict.fromkeys(defined(Path(__file__).parent / "losses.py", r"def (\w+)_surrogate\(")))
