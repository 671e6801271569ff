"""Fixtures, and measures that keep the tests quick on every backend: the order of files, memory that is given back."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Files that take longest, in this order, before all others: processes that share the tests finish together then.
LONGEST = (
    "nucleus/experiments/publications/test_runner.py",
    "mrcnn/test_training.py",
    "nucleus/test_notebooks.py",
    "nucleus/test_golden.py",
    "nucleus/exporting/test_export.py",
    "nucleus/models/test_tiles.py",
    "nucleus/prediction/test_results.py",
    "nucleus/training/test_light_recipe.py",
    "mrcnn/test_efficientnet_backbone.py",
    "nucleus/models/test_efficientnet_backbone.py",
    "nucleus/experiments/comparison/test_compare.py",
    "test_damaged_files.py",
    "test_documentation.py",
    "nucleus/training/test_finetuning.py",
    "nucleus/test_installation.py",
    "nucleus/ensemble/test_combined.py",
    "nucleus/test_pipeline.py",
    "nucleus/test_unet_pipeline.py",
    "mrcnn/test_model.py",
    "mrcnn/test_parity.py",
    "mrcnn/test_saving.py",
    "unet/test_training.py",
    "unet/test_model.py",
    "unet/test_weights.py",
    "trainkit/test_checkpoint.py",
    "trainkit/test_fitting.py",
    "test_benchmarks.py",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out files without a test for every backend where only those run: importing all takes seconds."""
    of_backends = config.getoption("markexpr") == "backend"
    if of_backends and collection_path.suffix == ".py" and "mark.backend" not in collection_path.read_text("utf-8"):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_collection_finish() -> None:
    """Takes modules and tests out of later garbage collections, which are quick then."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def freed_memory() -> Iterator[None]:
    """Frees a module's networks at its end: graphs refer to each other, and Python alone gets round to them late."""
    yield
    gc.collect()


@pytest.fixture(scope="session", autouse=True)
def quick_initial_weights() -> Iterator[None]:
    """Draws initial kernels with NumPy on JAX, which otherwise compiles that for every shape, for minutes in all."""
    import keras
    import numpy as np

    if keras.backend.backend() != "jax":
        yield
        return

    def draw(self, shape, dtype=None):
        fans = np.prod(shape[:-2]) * (shape[-2] + shape[-1])
        return np.random.uniform(-1, 1, shape).astype(np.float32) * np.sqrt(6 / fans)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.initializers.VarianceScaling, "__call__", draw)
        yield


@pytest.fixture(scope="session")
def compiled() -> Callable[[Callable], Callable]:
    """Returns a function that compiles another on JAX, where running it step by step takes far longer."""
    # Here and above, not at the top: the process that only hands out the tests needs neither.
    import keras

    if keras.backend.backend() != "jax":
        return lambda function: function
    import jax

    return jax.jit


@pytest.fixture
def eager() -> Iterator[None]:
    """Runs TensorFlow step by step: compiling a graph takes longer than the few steps of a tiny network."""
    import keras

    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
