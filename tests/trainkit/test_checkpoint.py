"""A killed run resumes exactly where its last finished epoch left it."""

import csv
import dataclasses
import importlib.util
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest

from trainkit.checkpoint import (
    CheckpointError,
    read_training_state,
    restore_training_state,
    save_checkpoint,
    strip_training_state,
)
from trainkit.fitting import resume
from trainkit.hdf5 import WeightsFileError, load_weights, save_weights

pytestmark = pytest.mark.backend

SCRIPT = Path(__file__).with_name("tiny_training.py")
spec = importlib.util.spec_from_file_location("tiny_training", SCRIPT)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: its model, its folder and the loss of each epoch."""
    model, folder = tiny.build(), tmp_path_factory.mktemp("whole")
    return model, folder, tiny.fit(model, folder)


@pytest.fixture
def trained(whole, tmp_path):
    """The model of the uninterrupted run and a copy of its folder; the model is not to be changed."""
    model, folder, _ = whole
    return model, Path(shutil.copytree(folder, tmp_path / "run"))


def test_killed_while_writing_a_checkpoint_then_resumed_equals_uninterrupted(whole, tmp_path):
    killed = tmp_path / "killed"
    process = subprocess.run([sys.executable, SCRIPT, killed], capture_output=True, check=False)
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert sorted(path.name for path in killed.glob("tiny_*.h5")) == ["tiny_0001.h5", "tiny_0002.h5"]

    resumed = tiny.resume(killed / "tiny_0002.h5", killed)
    _, folder, uninterrupted = whole
    assert len(resumed) == 2
    assert len(set(uninterrupted)) == tiny.EPOCHS
    np.testing.assert_allclose(resumed, uninterrupted[2:], rtol=1e-6)

    logs = [list(csv.DictReader((path / "log.csv").open())) for path in (killed, folder)]
    assert [row["epoch"] for row in logs[0]] == ["1", "2", "3", "4"]
    for row, expected in zip(*logs, strict=True):
        assert float(row["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-6)


@pytest.mark.parametrize("forgotten", ["optimizer", "variables"])
def test_the_comparison_above_notices_a_state_that_is_not_restored(whole, tmp_path, monkeypatch, forgotten):
    if forgotten == "variables" and not tiny.DROPOUT:
        pytest.skip("no layer draws random numbers")
    checkpoint = whole[1] / "tiny_0004.h5"

    def restore_all_but_one(model, optimizer, state):
        save_checkpoint(tmp_path / "fresh.h5", model, epoch=3, seed=0, stage={})
        fresh = read_training_state(tmp_path / "fresh.h5")
        partial = dataclasses.replace(state, **{forgotten: getattr(fresh, forgotten)})
        restore_training_state(model, optimizer, partial)

    monkeypatch.setattr(tiny, "restore_training_state", restore_all_but_one)
    monkeypatch.setattr(tiny, "EPOCHS", 6)
    lacking = tiny.resume(checkpoint, tmp_path)
    monkeypatch.setattr(tiny, "restore_training_state", restore_training_state)
    complete = tiny.resume(checkpoint, tmp_path)
    assert not np.allclose(lacking, complete, rtol=1e-4)


def test_only_the_last_checkpoint_keeps_its_state_and_all_are_weights_files(trained):
    model, folder = trained
    paths = sorted(folder.glob("*.h5"))
    assert [path.name for path in paths] == [f"tiny_000{epoch}.h5" for epoch in (1, 2, 3, 4)]
    assert [read_training_state(path) is not None for path in paths] == [False, False, False, True]
    other = tiny.build(seed=99)
    for path in paths:
        assert load_weights(other, path, by_name=False).unused == []
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(np.array(found), np.array(expected))
    assert sorted(path.suffix for path in folder.iterdir()) == [".csv", *[".h5"] * 4]


def test_the_state_says_epoch_seed_and_stage(trained):
    model, folder = trained
    state = read_training_state(folder / "tiny_0004.h5")
    assert (state.epoch, state.seed, state.stage) == (4, tiny.SEED, tiny.STAGE)
    assert len(state.optimizer) == len(model.optimizer.variables)
    steps = dict(zip((v.name for v in model.optimizer.variables), state.optimizer, strict=True))["iteration"]
    assert int(steps[1]) == 16
    assert len(state.variables) == (1 if tiny.DROPOUT else 0)


def test_stripping_leaves_just_what_save_weights_writes(trained):
    model, folder = trained
    strip_training_state(folder / "tiny_0004.h5")
    save_weights(model, folder / "plain.h5")
    contents = []
    for name in ("tiny_0004.h5", "plain.h5"):
        with h5py.File(folder / name) as file:
            members = []
            file.visititems(lambda key, item, into=members: into.append((key, getattr(item, "shape", None))))
            groups = {"": file.attrs, **{group: file[group].attrs for group in file}}
            attributes = {
                (group, key): np.array(value).tolist()
                for group, attrs in groups.items()
                for key, value in attrs.items()
            }
            contents.append((members, attributes))
    assert contents[0] == contents[1]


def test_what_a_kill_left_of_earlier_epochs_is_put_in_order(whole, trained):
    """A kill between a checkpoint and the stripping of the one before leaves that whole, and a temporary file."""
    model, folder = trained
    for epoch in (1, 2):
        save_checkpoint(folder / f"tiny_{epoch:04d}.h5", model, epoch=epoch, seed=tiny.SEED, stage=tiny.STAGE)
    left = [folder / name for name in (".tiny_0001.a1b2.h5", ".tiny_0003.x.h5", ".log.z.csv")]
    for path in left:
        path.write_bytes(b"half")
    tiny.resume(folder / "tiny_0002.h5", folder)
    states = [read_training_state(folder / f"tiny_{epoch:04d}.h5") is not None for epoch in (1, 2, 3, 4)]
    assert states == [False, False, False, True]
    assert not any(path.exists() for path in left)


def test_a_plain_weights_file_has_no_state_and_is_left_as_it_is(trained):
    model, folder = trained
    save_weights(model, folder / "plain.h5")
    before = (folder / "plain.h5").read_bytes()
    assert read_training_state(folder / "plain.h5") is None
    strip_training_state(folder / "plain.h5")
    assert (folder / "plain.h5").read_bytes() == before


def test_keras_reads_a_checkpoint_as_weights(trained):
    model, folder = trained
    other = tiny.build(seed=99)
    other.load_weights(folder / "tiny_0004.h5")
    for found, expected in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(np.array(found), np.array(expected))


@pytest.mark.parametrize(
    ("optimizer", "frozen", "cause"),
    [
        (keras.optimizers.SGD, False, "has 2 variables and the checkpoint 8"),
        (keras.optimizers.Adam, False, "has 14 variables and the checkpoint 8"),
        (lambda: keras.optimizers.SGD(momentum=0.9), True, "has 6 variables and the checkpoint 8"),
    ],
)
def test_another_optimizer_or_stage_is_refused(trained, optimizer, frozen, cause):
    model, (_, folder) = tiny.build(), trained
    model.get_layer("dense_in").trainable = not frozen
    optimizer = optimizer()
    optimizer.build(model.trainable_variables)
    with pytest.raises(CheckpointError, match=cause):
        restore_training_state(model, optimizer, read_training_state(folder / "tiny_0004.h5"))


def test_another_shape_is_refused_and_nothing_changed(trained):
    _, folder = trained
    state = read_training_state(folder / "tiny_0004.h5")
    other = keras.Sequential([keras.Input((6,)), *[keras.layers.Dense(8) for _ in range(3)]])
    optimizer = keras.optimizers.SGD(momentum=0.9)
    optimizer.build(other.trainable_variables)
    with pytest.raises(CheckpointError, match=r"shape \(8, 8\)|shape \(8,\)"):
        restore_training_state(other, optimizer, state)
    assert int(optimizer.iterations) == 0


@pytest.mark.parametrize("dtype", ["S4", "complex64", "int64"])
def test_a_state_of_another_type_is_refused_and_nothing_changed(trained, dtype):
    _, folder = trained
    path = folder / "tiny_0004.h5"
    with h5py.File(path, "r+") as file:
        group = file["training_state/optimizer"]
        name = list(group)[-1]
        shape, label = group[name].shape, group[name].attrs["path"]
        del group[name]
        group.create_dataset(name, data=np.zeros(shape, dtype)).attrs["path"] = label
    model = tiny.build()
    model.optimizer.build(model.trainable_variables)
    trainee = SimpleNamespace(checkpoint=path, epoch=4, keras_model=model, config=SimpleNamespace(GPU_COUNT=1))
    stage = read_stage(path)
    with pytest.raises(
        ValueError, match=r"tiny_0004\.h5: .*(composed values|real numbers|of the type int64 in the file and float32)"
    ):
        resume(trainee, stage)
    assert int(model.optimizer.iterations) == 0


def read_stage(path):
    with h5py.File(path) as file:
        return json.loads(file["training_state"].attrs["stage"])


@pytest.mark.parametrize(
    ("name", "value"), [("epoch", -1), ("epoch", 2.5), ("seed", "one"), ("stage", "[1]"), ("stage", "{"), ("stage", 3)]
)
def test_a_state_out_of_its_range_is_named(trained, name, value):
    _, folder = trained
    with h5py.File(folder / "tiny_0004.h5", "r+") as file:
        file["training_state"].attrs[name] = value
    with pytest.raises(WeightsFileError, match=r"tiny_0004\.h5: "):
        read_training_state(folder / "tiny_0004.h5")


def test_a_version_from_the_future_is_named(trained):
    _, folder = trained
    with h5py.File(folder / "tiny_0004.h5", "a") as file:
        file["training_state"].attrs["version"] = 2
    with pytest.raises(WeightsFileError, match=r"tiny_0004\.h5: its training state is of version 2, not 1"):
        read_training_state(folder / "tiny_0004.h5")


def test_a_stage_that_json_cannot_hold_leaves_the_old_checkpoint(trained):
    model, folder = trained
    before = (folder / "tiny_0004.h5").read_bytes()
    with pytest.raises(TypeError):
        save_checkpoint(folder / "tiny_0004.h5", model, epoch=4, seed=0, stage={"layers": object()})
    assert (folder / "tiny_0004.h5").read_bytes() == before
