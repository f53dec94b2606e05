"""A part that is missing has a reason, always."""

import pytest

from analysis.missing import Missing, attempt, known
from scaling.schema import InputError


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_a_missing_part_without_a_reason_cannot_exist(reason):
    with pytest.raises(ValueError, match="needs a reason"):
        Missing(reason)


def test_a_refusal_becomes_a_reason_and_again_a_refusal():
    def refuse():
        raise InputError("needs two sizes.")

    assert attempt(refuse) == Missing("needs two sizes.")
    assert attempt(refuse).json() == {"error": "needs two sizes."}
    with pytest.raises(InputError, match="needs two sizes"):
        known(attempt(refuse))


def test_what_can_be_made_is_itself():
    assert known(attempt(lambda: 3)) == 3
    with pytest.raises(ZeroDivisionError):  # only a refusal is a reason
        attempt(lambda: 1 / 0)
