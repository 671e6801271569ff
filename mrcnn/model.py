"""`MaskRCNN`, the model a user holds: build, load weights, train, detect, look inside.

Method names and arguments are those of matterport's Mask_RCNN 2.1; the functions that its `model` module offered
beside the class are importable from here too.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import training
from mrcnn.anchors import compute_backbone_shapes, normalized_anchors, pyramid_anchors
from mrcnn.backbone import resnet_graph
from mrcnn.config import Config
from mrcnn.data import (
    DataGenerator,
    build_rpn_targets,
    compose_image_meta,
    data_generator,
    load_image_gt,
    mold_image,
    mold_inputs,
    parse_image_meta,
    parse_image_meta_graph,
    unmold_image,
)
from mrcnn.debug_targets import build_detection_targets, generate_random_rois
from mrcnn.detector import Detector
from mrcnn.graph import build_inference_graph, build_training_graph
from mrcnn.introspection import compute_tensors, find_ancestor
from mrcnn.layers import BatchNorm
from mrcnn.results import Instances
from mrcnn.runs import checkpoint_template, last_checkpoint, new_run, run_of
from mrcnn.weights import default_weights_dir, download_imagenet, is_imagenet_file, load_imagenet
from trainkit.checkpoint import TrainingState, read_training_state
from trainkit.hdf5 import LoadReport, load_weights, save_weights

__all__ = [
    "BatchNorm",
    "DataGenerator",
    "MaskRCNN",
    "build_detection_targets",
    "build_rpn_targets",
    "compose_image_meta",
    "compute_backbone_shapes",
    "data_generator",
    "generate_random_rois",
    "load_image_gt",
    "log",
    "mold_image",
    "mold_inputs",
    "parse_image_meta",
    "parse_image_meta_graph",
    "resnet_graph",
    "unmold_image",
]

MODES = ("training", "inference")


def log(text: str, array: np.ndarray | None = None) -> None:
    """Prints a line and, if given, the shape, range and dtype of an array."""
    if array is not None:
        array = np.asarray(array)
        low, high = (array.min(), array.max()) if array.size else ("", "")
        text = f"{text:25}shape: {array.shape!s:20}  min: {low:10}  max: {high:10}  {array.dtype}"
    print(text)


class MaskRCNN:
    """Mask R-CNN with a feature pyramid (He et al. 2017).

    Attributes:
        keras_model: The Keras model; the training graph or the inference graph, by mode.
        config: The configuration.
        epoch: Finished epochs, also of the run that loaded weights come from.
        log_dir: Folder of this run's logs and checkpoints, `<model_dir>/<name><date>`.
        checkpoint_path: Path of the checkpoints, with `{epoch:04d}` in it.

    Args:
        mode: "training" or "inference".
        config: The configuration.
        model_dir: Folder in which every run gets its own.

    Raises:
        ValueError: The mode is unknown.
        ConfigError: The configuration cannot be built.
    """

    def __init__(self, mode: str, config: Config, model_dir: str | os.PathLike):
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}. Received: {mode!r}")
        config.validate()
        self.mode = mode
        self.config = config
        self.model_dir = str(model_dir)
        self.training_state: TrainingState | None = None
        self.set_log_dir()
        self.keras_model = self.build(mode, config)

    def build(self, mode: str, config: Config) -> keras.Model:
        """Builds the graph of a mode and returns its Keras model."""
        if mode == "training":
            return build_training_graph(config)
        graph = build_inference_graph(config)
        self._detector = Detector(graph, config)
        return graph.model

    # ---- Weights -------------------------------------------------------------------------------------------

    def find_last(self) -> str:
        """Returns the path of the last checkpoint of the last run in `model_dir`.

        Raises:
            FileNotFoundError: There is none.
        """
        return str(last_checkpoint(self.model_dir, self._name))

    def load_weights(
        self, filepath: str | os.PathLike, by_name: bool = False, exclude: Sequence[str] | None = None
    ) -> LoadReport:
        """Loads weights and, if they are a checkpoint of a run, takes that run up.

        Args:
            filepath: A weights file of the lineage or of this project, or a keras.applications ResNet file.
            by_name: Whether layers that the file lacks may keep their weights.
            exclude: Names of layers that keep their weights; implies `by_name`.

        Returns:
            Which layers were loaded, which are missing in the file, which were not used.

        Raises:
            WeightsFileError: The file cannot be read or belongs to another network; nothing is changed then.
        """
        path = Path(filepath)
        if path.is_file() and is_imagenet_file(path):
            report = LoadReport(loaded=load_imagenet(self.keras_model, path))
        else:
            report = load_weights(self.keras_model, path, exclude=exclude or (), by_name=bool(by_name or exclude))
        self.set_log_dir(path)
        self.training_state = read_training_state(path) if self.mode == "training" and self.epoch else None
        return report

    def save_weights(self, filepath: str | os.PathLike, dtype: str | None = None) -> None:
        """Writes the weights in the lineage's layout, atomically.

        Args:
            filepath: The file.
            dtype: "float16" halves the file; by default the weights' own dtype.
        """
        save_weights(self.keras_model, filepath, dtype=dtype)

    def get_imagenet_weights(self) -> str:
        """Returns the file of the backbone's ImageNet weights, downloaded when it is not there.

        Raises:
            ValueError: There are none for this backbone.
            DownloadError: They could not be fetched; the message says from where and where to put them.
        """
        return str(download_imagenet(self.config.BACKBONE, default_weights_dir()))

    def set_log_dir(self, model_path: str | os.PathLike | None = None) -> None:
        """Sets `log_dir`, `checkpoint_path` and `epoch`.

        Args:
            model_path: A checkpoint `…/<name><date>/mask_rcnn_<name>_<epoch>.h5`, whose run is taken up. By default,
                and for any other file, a new run begins.
        """
        run = model_path and run_of(model_path)
        if run:
            print(f"Weights of epoch {run.epoch} of {run.folder}")
        run = run or new_run(self.model_dir, self._name)
        self.epoch = run.epoch
        self.log_dir = str(run.folder)
        self.checkpoint_path = checkpoint_template(run, self._name)

    @property
    def _name(self) -> str:
        return self.config.NAME or "mask_rcnn"

    # ---- Training ------------------------------------------------------------------------------------------

    def set_trainable(
        self, layer_regex: str, keras_model: keras.Model | None = None, indent: int = 0, verbose: int = 1
    ) -> None:
        """Lets the layers learn whose whole name matches, freezes the others.

        Args:
            layer_regex: A regular expression, or "heads", "3+", "4+", "5+", "all".
            keras_model: The model; this one's by default.
            indent: Not used; the lineage's signature.
            verbose: 1 prints the names of the layers that learn.

        Raises:
            ValueError: No layer matches.
        """
        training.set_trainable(layer_regex, keras_model or self.keras_model, verbose)

    def compile(self, learning_rate: float, momentum: float) -> None:
        """Gives the training model a fresh optimizer; `train` does this itself."""
        training.compile_model(self, learning_rate, momentum)

    def train(
        self,
        train_dataset: Any,
        val_dataset: Any,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation: Any = None,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
        no_augmentation_sources: Sequence[str] | None = None,
    ) -> keras.callbacks.History | None:
        """Trains until `epochs` epochs are done in total, earlier calls and the resumed run included.

        Every finished epoch leaves a checkpoint with the optimizer's state, a line in `training.csv` and an entry
        for TensorBoard in `log_dir`.

        Args:
            train_dataset: A prepared `utils.Dataset`.
            val_dataset: Another, for the validation losses.
            learning_rate: Above 0.
            epochs: Epochs after which to stop.
            layers: Which layers learn: "heads" (all but the backbone), "3+", "4+", "5+" (heads and the backbone from
                that stage on), "all", or a regular expression over layer names.
            augmentation: An imgaug augmenter, applied to image and masks together.
            custom_callbacks: Keras callbacks. They are called before the logs are written, so what they add to
                the logs is logged.
            no_augmentation_sources: Sources whose images are not augmented.

        Returns:
            The history of `fit`, or None if nothing was left to do.

        Raises:
            ValueError: The model was built for inference, or no layer matches `layers`.
        """
        self._require("training")
        return training.train(
            self,
            train_dataset,
            val_dataset,
            learning_rate,
            epochs,
            layers,
            augmentation,
            custom_callbacks,
            no_augmentation_sources,
        )

    def inference_twin(self, config: Config) -> MaskRCNN:
        """Returns a model that detects, to be kept up to date with `copy_weights_from` while this one trains."""
        twin = MaskRCNN("inference", config, self.model_dir)
        twin.copy_weights_from(self)
        return twin

    def copy_weights_from(self, other: MaskRCNN) -> None:
        """Copies the weights of a model of the same architecture."""
        if hasattr(other.keras_model, "jax_state_sync"):
            other.keras_model.jax_state_sync()
        ours, theirs = (_weights_by_path(model.keras_model) for model in (self, other))
        if ours.keys() != theirs.keys():
            different = sorted(ours.keys() ^ theirs.keys())
            raise ValueError(f"The models differ in architecture: {', '.join(different[:5])}")
        for path, variable in ours.items():
            variable.assign(theirs[path].value)

    # ---- Detection -----------------------------------------------------------------------------------------

    def detect(self, images: Sequence[np.ndarray], verbose: int = 0) -> list[dict[str, np.ndarray]]:
        """Finds objects.

        Args:
            images: Any number of uint8 `[H, W, C]` images, RGB, of any sizes.
            verbose: 1 prints shapes and ranges of the inputs.

        Returns:
            For every image a dict: `rois` int32 `[N, 4]` (y1, x1, y2, x2) pixels, `class_ids` int32 `[N]`, `scores`
            float32 `[N]` descending, `masks` bool `[H, W, N]`.

        Raises:
            ValueError: The model was built for training, or an image has no pixels or the wrong channels.
        """
        if verbose:
            log(f"Processing {len(images)} images")
            for image in images:
                log("image", image)
        return [_as_dict(found) for found in self.detect_instances(images)]

    def detect_instances(self, images: Sequence[np.ndarray]) -> list[Instances]:
        """Finds objects as boxes with small masks: what `detect` does before it makes masks of image size.

        Args:
            images: Any number of uint8 `[H, W, C]` images, RGB, of any sizes.

        Returns:
            The objects of each image.
        """
        self._require("inference")
        return self._detector.detect([self._check_image(image) for image in images])

    def detect_molded(
        self, molded_images: np.ndarray, image_metas: np.ndarray, verbose: int = 0
    ) -> list[dict[str, np.ndarray]]:
        """Finds objects in images that were resized and molded before, as `load_image_gt` and `mold_image` do.

        Args:
            molded_images: float32 `[B, H, W, C]`.
            image_metas: `[B, M]`.
            verbose: 1 prints shapes and ranges of the inputs.

        Returns:
            As `detect`, in pixels of the molded images.
        """
        self._require("inference")
        molded_images, image_metas = np.asarray(molded_images, np.float32), np.asarray(image_metas, np.float32)
        if verbose:
            log(f"Processing {len(molded_images)} images")
            log("molded_images", molded_images)
            log("image_metas", image_metas)
        shapes = [image.shape for image in molded_images]
        windows = [(0, 0, *shape[:2]) for shape in shapes]
        return [_as_dict(found) for found in self._detector.detect_molded(molded_images, image_metas, windows, shapes)]

    def _check_image(self, image: np.ndarray) -> np.ndarray:
        image = np.asarray(image)
        channels = self.config.IMAGE_CHANNEL_COUNT
        if image.ndim != 3 or image.shape[2] != channels or image.size == 0:
            raise ValueError(f"Expected an image [H, W, {channels}] with pixels. Received: shape {image.shape}")
        return image

    def _require(self, mode: str) -> None:
        if self.mode != mode:
            raise ValueError(f"This needs a model in {mode} mode: MaskRCNN(mode={mode!r}, …). Received: {self.mode!r}")

    # ---- Looking inside ------------------------------------------------------------------------------------

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray:
        """Returns the normalised anchors float32 `[A, 4]` of an image size; `self.anchors` are then those in pixels."""
        self.anchors = pyramid_anchors(self.config, image_shape)
        return normalized_anchors(self.config, image_shape)

    def mold_inputs(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Resizes images to the network's input: see `mrcnn.data.mold_inputs`."""
        return mold_inputs(images, self.config)

    def find_trainable_layer(self, layer: keras.Layer) -> keras.Layer:
        """Returns the layer that a wrapper holds, or the layer itself."""
        return self.find_trainable_layer(layer.layer) if isinstance(layer, keras.layers.Wrapper) else layer

    def get_trainable_layers(self) -> list[keras.Layer]:
        """Returns the layers with weights; a nested model counts as one."""
        return [layer for layer in self.keras_model.layers if layer.weights]

    def ancestor(self, tensor: Any, name: str, checked: Any = None) -> Any:
        """Finds a tensor by name among those that a tensor of the graph was computed from.

        Args:
            tensor: A symbolic tensor of `keras_model`.
            name: Name of a layer. What the lineage's notebooks pass works too: of `ROI/pre_nms_anchors:0` the part
                before the colon and after the slash counts, and the tensor number chooses among several outputs.
            checked: Not used; the lineage's signature.

        Returns:
            The symbolic tensor, or None.
        """
        return find_ancestor(tensor, name)

    def run_graph(
        self, images: Sequence[np.ndarray], outputs: Sequence[tuple[str, Any]], image_metas: np.ndarray | None = None
    ) -> OrderedDict[str, np.ndarray]:
        """Computes any tensors of the inference graph.

        Args:
            images: Images as for `detect`, of one size after resizing; molded ones if `image_metas` is given.
            outputs: (name, symbolic tensor) pairs; pairs with None are refused.
            image_metas: `[B, M]`.

        Returns:
            The arrays by name.

        Raises:
            ValueError: An output is None.
        """
        if image_metas is None:
            molded, metas, _ = self.mold_inputs(images)
        else:
            molded, metas = np.asarray(images, np.float32), np.asarray(image_metas, np.float32)
        anchors = self.get_anchors(molded.shape[1:])
        anchors = np.broadcast_to(anchors, (len(molded), *anchors.shape))
        arrays = compute_tensors(self.keras_model, (molded, metas, anchors), outputs)
        for name, array in arrays.items():
            log(name, array)
        return arrays


def _weights_by_path(model: keras.Model) -> dict[str, keras.Variable]:
    """Weights by layer and variable name, inner layers of nested models included."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.update(_weights_by_path(layer))
        else:
            found.update({f"{layer.name}/{w.name}": w for w in layer.weights if "seed_generator" not in w.path})
    return found


def _as_dict(found: Instances) -> dict[str, np.ndarray]:
    return {"rois": found.boxes, "class_ids": found.class_ids, "scores": found.scores, "masks": found.masks()}
