"""A training of a second whose result depends on everything a checkpoint has to hold.

Momentum (optimizer variables), BatchNorm (statistics) and Dropout (the state of a random generator) all change
from step to step. Run as a script, it trains and is killed while it writes the checkpoint of the third epoch:

    tiny_training.py FOLDER
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

from trainkit.callbacks import EpochCheckpoint, ResumableCSVLogger
from trainkit.checkpoint import read_training_state, restore_training_state
from trainkit.hdf5 import load_weights

EPOCHS = 4
SEED = 7
# Keras draws dropout from PyTorch's own generator there, which `fit` moves on before its first step.
DROPOUT = 0.0 if keras.backend.backend() == "torch" else 0.3
STAGE = {"layers": "all", "learning_rate": 0.05}


def build(seed=SEED):
    """Returns a compiled model."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, name="dense_in"),
            keras.layers.BatchNormalization(name="bn"),
            keras.layers.Dropout(DROPOUT, name="dropout"),
            keras.layers.Dense(1, name="dense_out"),
        ]
    )
    # Drawn here, so that a process of its own begins like the tests' own, whatever they draw initial weights with.
    rng = np.random.default_rng(seed)
    for layer in ("dense_in", "dense_out"):
        kernel = model.get_layer(layer).kernel
        kernel.assign(rng.normal(0, 0.4, kernel.shape).astype(np.float32))
    optimizer = keras.optimizers.SGD(STAGE["learning_rate"], momentum=0.9)
    model.compile(optimizer, "mse")
    return model


def fit(model, folder, initial_epoch=0):
    """Trains up to EPOCHS with checkpoints and a log in `folder`; returns the loss of each epoch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 6)).astype(np.float32)
    y = (x.sum(axis=1, keepdims=True) > 0).astype(np.float32)
    callbacks = [
        ResumableCSVLogger(Path(folder) / "log.csv"),
        EpochCheckpoint(Path(folder) / "tiny_{epoch:04d}.h5", seed=SEED, stage=STAGE),
    ]
    history = model.fit(
        x,
        y,
        batch_size=8,
        epochs=EPOCHS,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    return history.history["loss"]


def resume(path, folder):
    """Goes on from a checkpoint with a model that began from other weights; returns the losses."""
    model = build(seed=99)
    load_weights(model, path, by_name=False)
    state = read_training_state(path)
    model.optimizer.build(model.trainable_variables)
    restore_training_state(model, model.optimizer, state)
    return fit(model, folder, initial_epoch=state.epoch)


def kill_at_third_checkpoint():
    """Makes this process kill itself when the checkpoint of the third epoch is written but not yet in place."""
    replace = os.replace

    def replace_or_die(source, target):
        if Path(target).name == "tiny_0003.h5":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    os.replace = replace_or_die


if __name__ == "__main__":
    kill_at_third_checkpoint()
    fit(build(), sys.argv[1])
