"""`UNet`: building, training, prediction, saving and loading in one object."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainkit.checkpoint import synchronise
from trainkit.compiled import compile_inference, inference_shapes
from trainkit.devices import building_on
from trainkit.files import atomic_path
from trainkit.fitting import fit, set_trainable
from trainkit.folding import fold_batch_norm
from trainkit.optimizers import make_optimizer
from trainkit.schedules import stage_cosine
from trainkit.seeding import seed_weights
from trainkit.stages import Stage, lay_out_stages, run_stages
from trainkit.trainee import Trainee
from unet.architecture import LAYER_REGEX, build_unet, set_weight_decay
from unet.config import RUN_FILES, UNetConfig
from unet.data import Dataset, TrainingBatches, ValidationBatches
from unet.inference import predict_channels
from unet.losses import make_loss
from unet.metrics import ChannelIoU
from unet.postprocess import PostprocessSettings, postprocess
from unet.saved import append_settings, read_saved
from unet.weights import encoder_weights_path, load_encoder_weights


class UNet(Trainee):
    """Encoder-decoder network with a probability for each pixel and channel, and the nuclei that follow from them.

        model = UNet(UNetConfig.from_preset("xception-inceptionse"))
        model.train(train_dataset, val_dataset)
        labels, scores = model.predict_labels(image)

    Attributes:
        keras_model: The Keras model, from images `[B, H, W, C]` in 0..255 to probabilities `[B, H, W, channels]`.
        config, epoch: Attributes of `Trainee`.

    Args:
        config: Configuration of the network. Its SEED seeds Keras, NumPy and Python, so that the same initial weights
            are drawn every time; ENCODER_WEIGHTS are loaded, and downloaded if they are ImageNet's and missing.
        model_dir: Folder of the training runs, one folder each.
        keras_model: Network of this configuration; by default a new one is built.

    Raises:
        SettingsError: The configuration cannot be built.
        DownloadError: ENCODER_WEIGHTS could not be fetched.
        WeightsFileError: ENCODER_WEIGHTS are another encoder's.

    Examples:
        >>> settings = {"ENCODER": "plain", "ENCODER_FILTERS": (4, 8), "DECODER": "plain"}
        >>> model = UNet(UNetConfig.from_preset(settings=settings))
        >>> (probabilities,) = model.predict([np.zeros((50, 70, 3), np.uint8)])
        >>> probabilities.shape == (50, 70, len(model.config.channels))
        True
        >>> labels, scores = model.predict_labels(np.zeros((50, 70, 3), np.uint8))
        >>> labels.shape, len(scores) == int(labels.max())
        ((50, 70), True)
    """

    run_files = RUN_FILES

    def __init__(
        self, config: UNetConfig, model_dir: str | os.PathLike = "logs", keras_model: keras.Model | None = None
    ):
        config.validate()
        super().__init__(config, model_dir)
        if keras_model is None:
            seed_weights(config.SEED)
            keras_model = build_unet(config)
            encoder_weights = encoder_weights_path(config)
            if encoder_weights is not None:
                load_encoder_weights(keras_model, encoder_weights)
        self._adopt(keras_model, config.GPU_COUNT)

    def _adopt(self, keras_model: keras.Model, devices: int) -> None:
        """Takes a network that was built on a number of devices as this model's."""
        self.keras_model, self._devices = keras_model, devices
        compiled = compile_inference(fold_batch_norm(keras_model))
        self._run = lambda images: keras.ops.convert_to_numpy(compiled(images))

    def summary(self, **settings: Any) -> None:
        """Prints the layers.

        Args:
            settings: Arguments of `keras.Model.summary`.
        """
        self.keras_model.summary(**settings)

    # ---- Training ------------------------------------------------------------------------------------------

    def compile(self, learning_rate: float | None = None) -> None:
        """Gives the network a fresh optimizer, the configured loss and the IoU of every channel; `train` calls this.

        Args:
            learning_rate: Learning rate above 0; by default LEARNING_RATE.
        """
        config = self.config
        # AdamW takes it off the weights itself.
        set_weight_decay(self.keras_model, 0.0 if config.OPTIMIZER == "AdamW" else config.WEIGHT_DECAY)
        rate = config.LEARNING_RATE if learning_rate is None else learning_rate
        with building_on(config.GPU_COUNT):
            optimizer = make_optimizer(
                config.OPTIMIZER,
                rate,
                config.LEARNING_MOMENTUM,
                config.GRADIENT_CLIP_NORM,
                weight_decay=config.WEIGHT_DECAY,
                average_momentum=config.AVERAGE_MOMENTUM,
            )
            if config.PRECISION == "mixed_float16":
                # Small gradients would be 0 in float16; Keras adds this only to models it knows to be of that kind.
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            self.keras_model.compile(
                optimizer=optimizer,
                loss=make_loss(config),
                metrics=[ChannelIoU(index, name=f"iou_{name}") for index, name in enumerate(config.channels)],
            )

    def train(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset,
        epochs: int | None = None,
        augmentation: Any = None,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
    ) -> dict[str, list[float]]:
        """Trains through STAGES; epochs that a loaded checkpoint has behind it are skipped.

        In each stage the layers learn that it names ("decoder": all but the encoder; "convolutions": all but batch
        normalisation, and where that does not learn, it runs with its stored statistics), with a fresh optimizer and a
        rate that falls within the stage as SCHEDULE says. With AVERAGE_MOMENTUM, the moving average of the weights is
        handed over. Every finished epoch leaves a checkpoint, from which a stopped training goes on exactly, a line in
        `training.csv` and an entry for TensorBoard in `log_dir`.

        Args:
            train_dataset: Data set to learn from, see `unet.data.Dataset`.
            val_dataset: Data set for the validation losses; unused where VALIDATION_STEPS is 0.
            epochs: Total epochs instead of the sum of STAGES: later stages are dropped, the last one left is cut or
                prolonged.
            augmentation: imgaug augmenter that keeps an image's size, applied to image and labels together.
            custom_callbacks: Keras callbacks. At the end of an epoch they are called after its checkpoint is written,
                which `find_last` names then, and before the logs are, so what they add to the logs is logged.

        Returns:
            The logs by name, one value for each epoch of this call: loss, iou_<channel>, the same with val_ in front,
            and learning_rate.

        Raises:
            ValueError: An image or a data set cannot be used, or no layer matches a stage.
            TrainingDivergedError: The loss became infinite or NaN.
            DevicesError: There are no GPU_COUNT devices that train together.
        """
        config = self.config
        if self._devices != config.GPU_COUNT:
            # A network that was loaded to predict.
            weights = self.keras_model.get_weights()
            self._adopt(build_unet(config), config.GPU_COUNT)
            self.keras_model.set_weights(weights)

        def train_stage(stage: Stage) -> keras.callbacks.History:
            training = TrainingBatches(train_dataset, config, augmentation)
            validation = ValidationBatches(val_dataset, config) if config.VALIDATION_STEPS else None
            return self._train_stage(stage, training, validation, custom_callbacks or ())

        return run_stages(self, lay_out_stages(config.STAGES, config.LEARNING_RATE, epochs), train_stage)

    def _train_stage(
        self,
        stage: Stage,
        training: TrainingBatches,
        validation: ValidationBatches | None,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> keras.callbacks.History:
        config = self.config
        learning = set_trainable(stage.layers, self.keras_model, LAYER_REGEX)
        self.compile(stage.learning_rate)
        print(
            f"\nTraining {stage.layers} ({len(learning)} layers) from epoch {self.epoch + 1} to {stage.until}, "
            f"learning rate {stage.learning_rate:g}"
        )
        return fit(
            self,
            training,
            validation,
            epochs=stage.until,
            stage={"layers": stage.layers, "learning_rate": float(stage.learning_rate), "begin": stage.begin},
            seed=config.SEED,
            callbacks=[self._schedule(stage), *callbacks],
        )

    def _schedule(self, stage: Stage) -> keras.callbacks.Callback:
        config = self.config
        if config.SCHEDULE == "cosine":
            return stage_cosine(stage, config.WARMUP_STEPS, config.STEPS_PER_EPOCH)
        return keras.callbacks.LearningRateScheduler(
            lambda epoch, _: stage.decayed_rate(epoch, config.LEARNING_RATE_DECAY, config.DECAY_EPOCHS)
        )

    # ---- Prediction ----------------------------------------------------------------------------------------

    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Predicts the channels of images, each at its own size, or at IMAGE_SIZE if INFERENCE_MODE says so.

        Images of like size go through the network together, in batches of at most `unet.inference.BATCH_PIXELS`.

        Args:
            images: uint8 or float `[H, W, C]` each, RGB in 0 to 255, of any sizes.

        Returns:
            For every image float32 `[H, W, channels]` in 0..1; `config.channels` names the channels.

        Raises:
            ValueError: An image has no pixels or the wrong channels.
        """
        synchronise(self.keras_model)
        return predict_channels(self._run, images, self.config, inference_shapes())

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds the nuclei of one image with the configuration's post-processing.

        Args:
            image: uint8 `[H, W, C]`, RGB.

        Returns:
            (labels int32 `[H, W]`, scores float32 `[N]`); `scores[k]` belongs to label k + 1.

        Raises:
            ValueError: The image has no pixels or the wrong channels.
        """
        (probabilities,) = self.predict([image])
        return postprocess(probabilities, PostprocessSettings.from_config(self.config))

    # ---- Files ---------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> None:
        """Writes network, weights and settings as one `.keras` file, atomically, without the optimizer.

        Args:
            path: File to write, whose name ends in `.keras`.

        Raises:
            ValueError: The name ends otherwise.
            OSError: The file cannot be written.
        """
        if Path(path).suffix != ".keras":
            raise ValueError(f"{path}: a saved model ends in .keras; save_weights writes weights alone (.h5).")
        synchronise(self.keras_model)
        # A model that was never compiled, of the same layers: training leaves no trace in the file.
        network = keras.Model(self.keras_model.inputs, self.keras_model.outputs, name=self.keras_model.name)
        with atomic_path(path) as temporary:
            network.save(temporary)
            append_settings(temporary, self.config)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        model_dir: str | os.PathLike = "logs",
        config_class: type[UNetConfig] = UNetConfig,
        config: UNetConfig | None = None,
    ) -> UNet:
        """Loads the model that `save` wrote.

        Args:
            path: `.keras` file. Its settings tell the network, which is built anew and gets the file's weights; nothing
                else of the file is used, so none of its code is run.
            model_dir: Folder of the training runs, one folder each.
            config_class: Class of the configuration that was saved.
            config: Configuration that replaces the saved one, of the same network; see `unet.saved.read_settings`.

        Raises:
            WeightsFileError: The file is missing or damaged, was not written by `save`, or holds another network than
                its settings, or those of `config`, say.
        """
        config, network = read_saved(path, config_class, config)
        return cls(config, model_dir, network)
