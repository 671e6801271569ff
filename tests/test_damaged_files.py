"""Files that come from outside, damaged at random: nothing but an error that names the file may come of it.

Each format gets 200 seeded mutations: flipped bits, cut-off ends, foreign bytes, values of other types, numbers out of
all ranges, names twice or missing, deep nesting. A mutation that leaves a valid file may be read.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import cv2
import h5py
import keras
import numpy as np
import pytest

from nucleus.datasets.folds import Folds, read_folds
from nucleus.datasets.layouts import read_samples
from nucleus.datasets.layouts.coco_segmentation import compress_runs
from nucleus.datasets.layouts.labelme_shapes import read_shapes
from nucleus.datasets.layouts.tables import read_modalities
from nucleus.ensemble.fitted import Ensemble, read_ensemble
from nucleus.ensemble.fusion.fused import Fusion, object_features, read_fusion
from nucleus.ensemble.fusion.logistic import Logistic
from nucleus.ensemble.fusion.objects import KINDS, pixel_features
from nucleus.ensemble.trees import Tree
from nucleus.images.geojson import nuclei_as_features, read_features
from nucleus.models.base import Prediction
from nucleus.models.recipe import Recipe
from nucleus.models.weights import read_recipe
from nucleus.prediction.manifest import Stored, read_stored, write_stored
from trainkit.checkpoint import read_training_state, restore_training_state, save_checkpoint
from trainkit.hdf5 import load_weights
from unet.config import make_config
from unet.model import UNet

_MUTATIONS = 200
# Stands for JSON text that Python's writer cannot produce.
_PLACEHOLDER = "to be replaced"
_ODD_JSON = ("1e999", "-1e999", "NaN", "9" * 4000, "9" * 5000, "[" * 100_000 + "]" * 100_000, '{"a": 1, "a": 2}')
_ODD_VALUES = (None, True, False, -1, 0, 10**9, 10**30, 1.5, -1e308, "", "text", "\ud800", "../..", "\0", [], {}, [[]])
_ODD_CELLS = (b"", b"-1", b"nan", b"1e999", b"9" * 5000, b"\0", b'"', b"\xff\xfe", b"0", b"1.5", b"a\nb", b"1 2 3")

Mutate = Callable[[bytes, np.random.Generator], bytes]


def damage_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips bits, cuts the end off, or overwrites, inserts or removes some bytes."""
    changed = bytearray(data)
    at, count = int(rng.integers(len(data))), int(rng.integers(1, 17))
    how = rng.integers(5)
    if how == 0:
        for place in rng.integers(len(data), size=count):
            changed[place] ^= 1 << int(rng.integers(8))
    elif how == 1:
        del changed[at:]
    elif how == 2:
        changed[at : at + count] = rng.bytes(count)
    elif how == 3:
        changed[at:at] = bytes(rng.integers(128, 256, count, dtype=np.uint8))
    else:
        del changed[at : at + count]
    return bytes(changed)


def damage_json(data: bytes, rng: np.random.Generator) -> bytes:
    """Replaces, removes or repeats one value anywhere in a JSON file; every fourth time damages its bytes."""
    if rng.random() < 0.25:
        return damage_bytes(data, rng)
    content = json.loads(data)
    holder, key = places(content)[rng.integers(len(places(content)))]
    how = rng.random()
    if how < 0.15:
        del holder[key]
    elif how < 0.3 and isinstance(holder, list):
        holder.append(holder[key])
    elif how < 0.65:
        holder[key] = _ODD_VALUES[rng.integers(len(_ODD_VALUES))]
    else:
        holder[key] = _PLACEHOLDER
    odd = _ODD_JSON[rng.integers(len(_ODD_JSON))]
    return json.dumps(content).replace(f'"{_PLACEHOLDER}"', odd).encode()


def places(content: Any) -> list[tuple[Any, Any]]:
    """Lists every (object or list, key) inside a JSON value."""
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    return [place for key in keys for place in ((content, key), *places(content[key]))]


def damage_csv(data: bytes, rng: np.random.Generator) -> bytes:
    """Replaces or removes a cell, or repeats or removes a row; every fourth time damages bytes."""
    if rng.random() < 0.25:
        return damage_bytes(data, rng)
    rows = [line.split(b",") for line in data.splitlines()]
    row = int(rng.integers(len(rows)))
    cell, how = int(rng.integers(len(rows[row]))), rng.integers(4)
    if how == 0:
        rows.append(rows[row])
    elif how == 1:
        del rows[row][cell]
    else:
        rows[row][cell] = _ODD_CELLS[rng.integers(len(_ODD_CELLS))]
    return b"\n".join(map(b",".join, rows)) + b"\n"


def damage_hdf5(data: bytes, rng: np.random.Generator) -> bytes:
    """Replaces one dataset or attribute by something else; every second time damages the file's bytes."""
    if rng.random() < 0.5:
        return damage_bytes(data, rng)
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        members: list[str] = []
        file.visit(members.append)
        name = members[rng.integers(len(members))]
        attributes = [(each, key) for each in ("/", *members) for key in file[each].attrs]
        if attributes and rng.random() < 0.4:
            owner, key = attributes[rng.integers(len(attributes))]
            values = (
                1,
                -1,
                2.5,
                "text",
                b"\xff",
                [b"\xff", b"a"],
                ["none"],
                np.zeros((2, 2)),
                h5py.Empty("S1"),
                2**63 - 1,
            )
            file[owner].attrs[key] = values[rng.integers(len(values))]
        else:
            replace_member(file, name, rng)
    return buffer.getvalue()


def replace_member(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    """Replaces a group or dataset by data of another kind, by a link, or by nothing."""
    shape = getattr(file[name], "shape", None) or (2,)
    del file[name]
    values = (
        np.full(shape, b"ab"),
        np.full(shape, 1j),
        np.full(shape, "a", object),
        np.full(shape, -1, np.int64),
        np.full(shape, np.nan),
        np.zeros((*shape, 2), np.float32),
        h5py.Empty("f4"),
        h5py.SoftLink("/"),
        h5py.ExternalLink("/etc/passwd", "/"),
        np.dtype("f4"),
    )
    choice = rng.integers(len(values) + 3)
    if choice < len(values):
        file[name] = values[choice]
    elif choice == len(values):
        file.create_group(name)
    elif choice == len(values) + 1:
        file.create_dataset(name, (2**40,), "f4", chunks=(1024,))


def damage_archive(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages or removes a member of a ZIP archive; every third time damages the bytes of the archive itself."""
    if rng.random() < 0.33:
        return damage_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = list(members)[rng.integers(len(members))]
    if rng.random() < 0.1:
        del members[name]
    else:
        members[name] = (damage_json if name.endswith(".json") else damage_hdf5)(members[name], rng)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for each, content in members.items():
            archive.writestr(each, content)
    return buffer.getvalue()


def attack(path, mutate: Mutate, read: Callable[[], Any], seed: int) -> int:
    """Reads a file after each mutation, and returns how many were refused.

    Any exception but a ValueError or OSError that names the file fails the test.
    """
    whole = path.read_bytes()
    read()
    refused = 0
    for number in range(_MUTATIONS):
        path.write_bytes(mutate(whole, np.random.default_rng((seed, number))))
        try:
            read()
        except (ValueError, OSError) as error:
            assert path.name in str(error), f"mutation {number}"
            refused += 1
        except Exception as error:
            raise AssertionError(f"mutation {number}: {error!r}") from error
    return refused


def tiny_network() -> keras.Model:
    image = keras.Input((4,), name="image")
    return keras.Model(image, keras.layers.Dense(2, name="second")(keras.layers.Dense(3, name="first")(image)))


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(weight) for weight in model.get_weights()]


def test_weights(tmp_path):
    model, path = tiny_network(), tmp_path / "weights.h5"
    save_checkpoint(path, model, epoch=1, seed=0, stage={})
    begin = values(model)

    def read():
        model.set_weights([weight * 0 for weight in begin])
        try:
            load_weights(model, path, by_name=False)
        except ValueError:
            assert not any(weight.any() for weight in values(model)), "changed in part"
            raise
        assert all(np.isfinite(weight).all() for weight in values(model))

    assert attack(path, damage_hdf5, read, seed=1) > _MUTATIONS // 4


def test_training_states(tmp_path):
    model, path = tiny_network(), tmp_path / "state.h5"
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    save_checkpoint(path, model, epoch=3, seed=5, stage={"layers": "all", "learning_rate": 0.1})

    def read():
        state = read_training_state(path)
        if state is None:
            return
        assert state.epoch >= 0 and state.seed >= 0 and isinstance(state.stage, dict)
        try:
            restore_training_state(model, model.optimizer, state)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    assert attack(path, damage_hdf5, read, seed=2) > _MUTATIONS // 4


def test_saved_models(tmp_path):
    settings = {"ENCODER": "plain", "ENCODER_FILTERS": (4, 6), "DECODER": "plain", "IMAGE_SIZE": 32}
    path = tmp_path / "model.keras"
    UNet(make_config(settings=settings), tmp_path).save(path)
    assert attack(path, damage_archive, lambda: UNet.load(path, tmp_path), seed=3) > _MUTATIONS // 2


def test_recipes(tmp_path):
    path = tmp_path / "recipe.json"
    Recipe("small", {"CLAHE": True, "DETECTION_MIN_CONFIDENCE": 0.5, "RPN_ANCHOR_SCALES": [8, 16, 32, 64, 128]}).save(
        tmp_path
    )
    assert attack(path, damage_json, lambda: read_recipe(path), seed=4) > _MUTATIONS // 2


def test_folds(tmp_path):
    path = tmp_path / "folds.json"
    Folds((("a", "b"), ("c",), ("d", "e")), held_out=2).save(path)
    assert attack(path, damage_json, lambda: read_folds(path).learned(), seed=5) > _MUTATIONS // 2


def test_fusions(tmp_path):
    path, channels = tmp_path / "fusion.json", ("mask",)
    pixels = {kind: zeros(pixel_features(channels, kind)) for kind in KINDS}
    weights = {"objects": "a.h5", "pixels": "b.h5"}
    ensemble = Ensemble(KINDS, ("shape",), ((stump(),),))
    Fusion(channels, pixels, zeros(object_features(channels)), ensemble, weights=weights).save(path)
    assert attack(path, damage_json, lambda: read_fusion(path), seed=6) > _MUTATIONS // 2


def stump():
    """Returns a tree of one split."""
    return Tree(*(np.array(values) for values in ([0], [0.5], [-1], [-2], [0.25, 0.75])))


def zeros(names):
    """Returns the logistic regression that knows nothing."""
    return Logistic(tuple(names), np.zeros(len(names)), 0.0)


def test_ensembles(tmp_path):
    path = tmp_path / "ensemble.json"
    Ensemble(("a", "b"), ("shape",), ((stump(), stump()),), weights={"a": "a.h5", "b": "b.h5"}).save(path)
    assert attack(path, damage_json, lambda: read_ensemble(path), seed=6) > _MUTATIONS // 2


def test_tables_of_classes(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text("ImageId,foreground,background\na,white,black\nb,purple,white\nc,purple,purple\n")
    assert attack(path, damage_csv, lambda: read_modalities(path), seed=7) > _MUTATIONS // 4


def read_all_labels(path):
    for sample in read_samples(path, "all"):
        labels = sample.truth.read(sample.image) if sample.truth else None
        assert labels is None or (labels.shape == (12, 16) and labels.min() >= 0)


@pytest.fixture
def pictures(tmp_path):
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((12, 16, 3), np.uint8))
    return tmp_path


def test_coco_files(pictures):
    path = pictures / "annotations.json"
    segmentations = [
        [[1, 1, 8, 1, 8, 8, 1, 8]],
        {"size": [12, 16], "counts": [100, 5, 87]},
        compress_runs(np.array([20, 60]), np.array([4, 9]), (12, 16)),
    ]
    content = {
        "images": [
            {"id": number, "file_name": f"{name}.png", "height": 12, "width": 16} for number, name in enumerate("ab")
        ],
        "annotations": [
            {"id": number, "image_id": number % 2, "iscrowd": 0, "segmentation": segmentation}
            for number, segmentation in enumerate(segmentations)
        ],
    }
    path.write_text(json.dumps(content))
    assert attack(path, damage_json, lambda: read_all_labels(path), seed=8) > _MUTATIONS // 2


SQUARE = np.pad(np.ones((4, 5), np.int32), 3)
POLYGON = {"label": "nucleus", "shape_type": "polygon", "points": [[1, 1], [8, 1], [8, 8]], "group_id": None}
LABELME = {"version": "5", "shapes": [POLYGON], "imagePath": "a.png", "imageHeight": 10, "imageWidth": 11}
RECORD = Stored({"sha256": "0", "nuclei": 1}, ["labels/a.png"], Prediction(SQUARE, np.ones(1, np.float32)))


@pytest.mark.parametrize(
    ("content", "read", "seed"),
    [(nuclei_as_features(SQUARE, {}, "a"), read_features, 10), (LABELME, read_shapes, 11)],
    ids=["geojson", "labelme"],
)
def test_drawn_outlines(tmp_path, content, read, seed):
    path = tmp_path / "outlines.json"
    path.write_text(json.dumps(content))
    assert attack(path, damage_json, lambda: read(path, SQUARE.shape), seed) > _MUTATIONS // 4


def damage_record(data: bytes, rng: np.random.Generator) -> bytes:
    """Damages the bytes of a record of a finished image, or a value of its JSON."""
    if rng.random() < 0.5:
        return damage_bytes(data, rng)
    with np.load(io.BytesIO(data)) as arrays:
        content = dict(arrays)
    buffer = io.BytesIO()
    content["about"] = np.frombuffer(damage_json(content["about"].tobytes(), rng), np.uint8)
    np.savez(buffer, **content)
    return buffer.getvalue()


def test_records_of_finished_images(tmp_path):
    path = tmp_path / "a.npz"
    write_stored(path, RECORD)

    def read():
        if read_stored(path) is None:
            raise ValueError(f"{path}: damaged, so the image counts as not finished")

    assert attack(path, damage_record, read, seed=13) > _MUTATIONS // 2


def test_tables_of_run_lengths(pictures):
    path = pictures / "solution.csv"
    rows = ["ImageId,EncodedPixels,Height,Width,Usage", "a,3 5 20 2,12,16,Public", "b,1 12,12,16,Private"]
    path.write_text("\n".join(rows) + "\n")
    assert attack(path, damage_csv, lambda: read_all_labels(path), seed=9) > _MUTATIONS // 4
