"""Does the sampler have the trainer's weights? Their log-probs of the same tokens tell, and nothing else does.

A version is a label, and checksums miss what is packed or tied: a stale output head has had both right. Where sampler
and trainer hold the same weights their log-probs agree to rounding, in the first mini-batch of a step, before any
optimizer step has moved the trainer's. A wrong head, cache, position or processor all show there.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from scaling.algorithm.mismatch import Difference

LARGEST = 1e-3  # |d| of any token in float32; engines agree to some 1e-5
MEAN_AT_FIRST = 0.02  # mean |d| in bfloat16, where single tokens may be far apart
JUMP = 5  # times the run's own history, beyond which a mean in bfloat16 is no rounding


class SamplerApart(RuntimeError):
    """The sampler's log-probs are not those of the trainer's weights."""


@dataclass
class Guard:
    """The bound of one run in this process; `means` is its history, which a resumed run begins anew."""

    dtype: str
    means: list[float] = field(default_factory=list)

    def check(self, difference: Difference, version: int | None) -> None:
        """Raise SamplerApart where the difference is no rounding; without an active group nothing is known."""
        if not difference.tokens:
            return
        if self.dtype == "float32":
            near = difference.largest <= LARGEST
        else:
            bound = max(LARGEST, JUMP * statistics.median(self.means)) if self.means else MEAN_AT_FIRST
            near = difference.mean <= bound
        if not near:  # also where it is nan
            raise SamplerApart(
                f"the sampler does not have the trainer's weights (version {version}, mean difference "
                f"{difference.mean:.2g}, largest {difference.largest:.2g} over {difference.tokens} tokens)"
            )
        self.means.append(difference.mean)
