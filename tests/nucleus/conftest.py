"""Small datasets in the Data Science Bowl's layout, models whose answers are known, and tiny networks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from scipy import ndimage

from nucleus.models import mask_rcnn_presets
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS
from nucleus.models.settings import PredictionSettings
from trainkit.presets import Preset
from unet import presets as unet_presets


@pytest.fixture
def add_sample(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that adds one image with its masks to `tmp_path`/`folder` and returns the image's folder."""

    def add(
        name: str,
        masks: Sequence[np.ndarray] | None,
        shape: tuple[int, int] = (12, 16),
        folder: str = "stage1_train",
    ) -> Path:
        sample = tmp_path / folder / name
        (sample / "images").mkdir(parents=True)
        image = np.random.default_rng(len(name)).integers(0, 256, (*shape, 3), np.uint8)
        cv2.imwrite(str(sample / "images" / f"{name}.png"), image)
        if masks is not None:
            (sample / "masks").mkdir()
            for number, mask in enumerate(masks):
                cv2.imwrite(str(sample / "masks" / f"{number:03d}.png"), mask.astype(np.uint8) * 255)
        return sample

    return add


@pytest.fixture
def rectangle() -> Callable[..., np.ndarray]:
    """Returns a function that makes a mask, bool [12, 16] by default, of one filled rectangle."""

    def make(y1: int, x1: int, y2: int, x2: int, shape: tuple[int, int] = (12, 16)) -> np.ndarray:
        mask = np.zeros(shape, bool)
        mask[y1:y2, x1:x2] = True
        return mask

    return make


class FakeModel(NucleusModel):
    """A model whose answers a test knows: a function finds the nuclei, and there is nothing to learn or to save.

    Args:
        find: Given preprocessed pixels, uint8 `[H, W, 3]` RGB, returns labels int32 `[H, W]` and scores float32 `[N]`.
        config: Settings of preprocessing and of test-time augmentation; by default neither happens.
    """

    def __init__(
        self,
        find: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
        config: PredictionSettings | None = None,
    ):
        self.find, self.config = find, config or PredictionSettings()

    def fit(self, train, val, *, epochs=None, callbacks=()):
        raise NotImplementedError

    def save(self, path):
        raise NotImplementedError

    def _predict(self, images):
        return [Prediction(*self.find(image)) for image in images]


def find_bright(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, count = ndimage.label(image.mean(axis=2) > 127)
    return labels.astype(np.int32), np.linspace(0.9, 0.5, count, dtype=np.float32)


@pytest.fixture(scope="session")
def fake_model() -> type[FakeModel]:
    """The class of models that find what a function finds."""
    return FakeModel


@pytest.fixture
def threshold_model() -> FakeModel:
    """A model that needs no weights: what is brighter than mid-grey are nuclei."""
    return FakeModel(find_bright)


@pytest.fixture
def write_squares(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes an image [24, 32] with bright squares of 4 x 4, and its path."""

    def write(path: str, *corners: tuple[int, int]) -> Path:
        image = np.zeros((24, 32, 3), np.uint8)
        for y, x in corners:
            image[y : y + 4, x : x + 4] = 200
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), image)
        return file

    return write


@pytest.fixture(scope="session")
def blobs() -> Callable[..., np.ndarray]:
    """Returns a function that makes a label image of random rectangles with gaps between the label numbers."""

    def make(rng: np.random.Generator, shape: tuple[int, int] = (60, 70), count: int = 12) -> np.ndarray:
        labels = np.zeros(shape, np.int32)
        for label in rng.permutation(np.arange(1, 3 * count))[:count]:
            y, x = rng.integers(0, shape[0] - 12), rng.integers(0, shape[1] - 12)
            labels[y : y + rng.integers(4, 12), x : x + rng.integers(4, 12)] = label
        return labels

    return make


def tiny_backbone(image, stage5, train_bn):
    """Four strided convolutions with the lineage's names, which the layer sets of a training match."""
    features = [keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu", name="conv1")(image)]
    for stage in (2, 3, 4, 5):
        convolve = keras.layers.Conv2D(
            8, 3, strides=1 if stage == 2 else 2, padding="same", activation="relu", name=f"res{stage}a_branch2a"
        )
        features.append(convolve(features[-1]))
    return features


_TINY_TRAINING = {"STEPS_PER_EPOCH": 1, "VALIDATION_STEPS": 1, "EVALUATE_EVERY": 1}
_TINY_MASK_RCNN = {
    **_TINY_TRAINING,
    "BACKBONE": tiny_backbone,
    "TOP_DOWN_PYRAMID_SIZE": 8,
    "RPN_CHANNELS": 8,
    "MASK_CHANNELS": 8,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 8,
    "IMAGE_MIN_DIM": 64,
    "IMAGE_MAX_DIM": 64,
    "IMAGE_MIN_SCALE": 1.0,
    "IMAGES_PER_GPU": 1,
    "POST_NMS_ROIS_TRAINING": 32,
    "POST_NMS_ROIS_INFERENCE": 32,
    "TRAIN_ROIS_PER_IMAGE": 8,
    "DETECTION_MAX_INSTANCES": 8,
    "STAGES": (("heads", 1), ("4+", 1)),
}
_TINY_UNET = {
    **_TINY_TRAINING,
    "ENCODER": "plain",
    "ENCODER_FILTERS": (4, 6, 8),
    "DECODER": "inception-se",
    "DECODER_FILTERS": (8, 8),
    "IMAGE_SIZE": 64,
    "BATCH_SIZE": 2,
    "STAGES": (("decoder", 1, 0.01), ("all", 1, 0.01)),
}


@contextmanager
def _tiny_presets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mask_rcnn_presets.PRESETS, "tiny", Preset("four convolutions", "the tests", _TINY_MASK_RCNN))
        patch.setitem(unet_presets.PRESETS, "tiny", Preset("two levels", "the tests", _TINY_UNET))
        yield


@pytest.fixture
def tiny_presets() -> Iterator[None]:
    """The preset "tiny" of both kinds of networks: built in seconds, and trained in a step an epoch."""
    with _tiny_presets():
        yield


@pytest.fixture(scope="module")
def module_presets() -> Iterator[None]:
    """The presets of `tiny_presets` for a whole module, whose fixtures need them."""
    with _tiny_presets():
        yield


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory) -> dict[str, Path]:
    """Weights files of the preset "tiny" by kind of network, each with its recipe beside it.

    The weights are random, but for the Mask R-CNN's preference for nuclei, so that it finds some.
    """
    folder, files = tmp_path_factory.mktemp("tiny"), {}
    with _tiny_presets():
        for kind, network in NETWORKS.items():
            model = network.begin(Recipe("tiny", {"CLAHE": True, "SEED": 3}, kind), folder / "logs")
            if kind == "mask_rcnn":
                model.network.keras_model.get_layer("mrcnn_class_logits").bias.assign([0, 5])
            files[kind] = folder / f"{kind}.h5"
            model.save(files[kind])
    return files


@pytest.fixture
def tiny_weights(tiny_files, tiny_presets) -> dict[str, Path]:
    """Weights files of tiny networks by kind, and the presets that their recipes name."""
    return tiny_files
