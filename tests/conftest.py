"""Fixtures and settings that every test shares."""

import os

import pytest

# Before torch is imported anywhere: one thread per process, as in every run, and no hub.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("MLFLOW_TRACKING_URI", None)


# Files that take more than some seconds; `make test-fast` leaves them out.
SLOW = {
    "asymptote",
    "compare",
    "evaluate",
    "figures",
    "forecast",
    "frontier",
    "hostile_curves",
    "integrity",
    "intervals",
    "laws",
    "math",
    "math_answers",
    "mirror",
    "one_file_law",
    "outlier",
    "own_laws",
    "paired_test",
    "policy",
    "profile",
    "report_sections",
    "shape",
    "trainer",
    "units",
    "update",
    "vllm",
}


def is_slow(path):
    return path.stem.removeprefix("test_") in SLOW


def pytest_ignore_collect(collection_path, config):
    """Files that are left out are not imported either."""
    return ("not slow" in config.option.markexpr and is_slow(collection_path)) or None


def pytest_collection_modifyitems(items):
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a tiny transformers model with a tokenizer."""
    from tiny_policies import text_folder

    return text_folder(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def encoding(model):
    from scaling.policy import load_encoding, load_policy

    return load_encoding(str(model), load_policy(model))
