"""Nucleus models that are networks: weights, training runs, and their files."""

from __future__ import annotations

import importlib
import os
from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from nucleus.augmentation.mixing import Mixing
from nucleus.models.base import History, NucleusModel, preprocess
from nucleus.models.recipe import Recipe, changed_settings
from nucleus.models.settings import ApplicationSettings, inference_settings
from trainkit.fingerprint import weights_fingerprint
from trainkit.presets import Preset
from trainkit.runs import RunFiles

if TYPE_CHECKING:
    import keras

    from nucleus.datasets.dataset import NucleusDataset
    from trainkit.trainee import Trainee

# Initial weights that are neither a file's nor published.
RANDOM = "none"
# ResNets that tiny networks replace by the shallowest one, which is built of the same blocks.
DEEP, LEAST_DEEP = ("resnet101", "resnet152"), "resnet50"


class NetworkInWords(NamedTuple):
    """A network's configuration in words.

    Attributes:
        architecture: Layers and losses.
        images: Size of the images that the network is shown.
        nuclei: Rules by which its output becomes nuclei.
    """

    architecture: str
    images: str
    nuclei: str


class NetworkModel(NucleusModel):
    """A network that finds nuclei.

    Make one with `load_model` to predict or fine-tune, or with `begin` to train from random or published weights.

    Attributes:
        kind, summary, presets, default_preset: Name of the kind, one line on it, its presets by name and the default.
        run_files: Names of the checkpoints.
        shipped: Name of the weights file of this kind that comes with the project; see
            `nucleus.models.weights.shipped_weights`.
        pretrained: Published weights that training can begin with.
        from_scratch: Settings that a training from random weights needs.
        mirrors: True to fill areas beyond an image's edge with mirror images in augmentation.
        config: Configuration of the detection.
        recipe: Recipe of the model; None for a model made from a configuration alone, which cannot be trained.
        model_dir: Folder in which every training run gets its own.
        network: The library's model, `mrcnn.model.MaskRCNN` or `unet.model.UNet`.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]
    presets: ClassVar[Mapping[str, Preset]]
    default_preset: ClassVar[str]
    run_files: ClassVar[RunFiles]
    shipped: ClassVar[str]
    pretrained: ClassVar[tuple[str, ...]]
    from_scratch: ClassVar[Mapping[str, Any]]
    mirrors: ClassVar[bool] = False

    config: ApplicationSettings
    network: Trainee

    def __init__(
        self,
        recipe: Recipe | None,
        config: ApplicationSettings | None = None,
        model_dir: str | os.PathLike = "logs",
    ):
        if config is None:
            config = self.make_config("inference", recipe.preset, inference_settings(recipe.settings))
        self.recipe, self.config, self.model_dir = recipe, config, model_dir
        self._training_config: ApplicationSettings | None = None
        self._detector: Any = None
        self._learned = False

    @classmethod
    @abstractmethod
    def make_config(
        cls, mode: Literal["training", "inference"], preset: str, settings: Mapping[str, Any]
    ) -> ApplicationSettings:
        """Returns a configuration of this kind; see `nucleus.models.registry.make_config`."""

    @classmethod
    def load(
        cls,
        weights: str | os.PathLike,
        recipe: Recipe | None,
        config: ApplicationSettings | None = None,
        model_dir: str | os.PathLike = "logs",
    ) -> NetworkModel:
        """Returns the model of a weights file; `load_model` finds the recipe by itself.

        Args:
            weights: Weights file, which holds every layer of the network.
            recipe: Recipe of the model; None where a configuration is given.
            config: Configuration of the detection; by default the recipe's.
            model_dir: Folder in which every training run gets its own.

        Raises:
            WeightsFileError: The file cannot be read or belongs to another network.
        """
        model = cls(recipe, config, model_dir)
        model.network = network = model._load(weights)
        # Fine-tuning is a run of its own, also where the weights are a checkpoint of another run.
        network.set_log_dir()
        network.checkpoint = None
        return model

    @classmethod
    def begin(
        cls,
        recipe: Recipe,
        model_dir: str | os.PathLike = "logs",
        weights: str = RANDOM,
        path: str | os.PathLike | None = None,
    ) -> NetworkModel:
        """Returns a model for training, with the weights that training begins with.

        Args:
            recipe: Recipe of the model; its SEED seeds Keras, NumPy and Python.
            model_dir: Folder in which every training run gets its own.
            weights: "coco" or "imagenet" for published weights, downloaded if needed (of a U-Net, the encoder's);
                "none" for random ones, or what ENCODER_WEIGHTS says; anything else for those of `path`. "last" means
                that the file is complete; another file may lack layers, which keep their random weights then.
            path: Weights file. The checkpoint of a run's epoch resumes that run.

        Raises:
            ValueError: There are no such weights for this kind, or the file's do not fit.
            DownloadError: The weights could not be fetched.
        """
        import keras

        cls.require_pretrained(weights)
        model = cls(recipe, model_dir=model_dir)
        keras.utils.set_random_seed(model.training_config.SEED)
        model.network = model._begin(weights, None if path is None else Path(path))
        return model

    @classmethod
    def require_pretrained(cls, weights: str) -> None:
        """Raises ValueError if `weights` names published weights that do not exist for this kind."""
        if weights in PUBLISHED_WEIGHTS and weights not in cls.pretrained:
            choices = ", ".join((*cls.pretrained, RANDOM, "last or a file"))
            raise ValueError(f"A {cls.kind} cannot begin with --weights={weights}, but {choices}.")

    @classmethod
    def scratch_settings(cls, config: ApplicationSettings, asked: Collection[str] = frozenset()) -> dict[str, Any]:
        """Returns the settings that a training from random weights needs.

        Frozen layers of random weights teach the others nothing, and a batch normalisation whose statistics stay at
        their initial values learns nothing: so every stage trains all layers, batch normalisation included.

        Args:
            config: Training configuration otherwise used.
            asked: Names of settings that the user chose.

        Returns:
            Attribute name -> value.
        """
        return {**cls.from_scratch, "STAGES": tuple(("all", *stage[1:]) for stage in config.STAGES)}

    def describe(self) -> dict[str, Any]:
        """Adds a SHA-256 of the weights' values, and the versions of Keras and its backend; see the base class."""
        import keras

        weights = map(keras.ops.convert_to_numpy, self.network.keras_model.weights)
        backend = keras.backend.backend()
        versions = {"keras": keras.__version__, backend: importlib.import_module(backend).__version__}
        return {**super().describe(), "weights": weights_fingerprint(weights), "versions": versions}

    @classmethod
    @abstractmethod
    def fine_tuning_settings(cls, config: ApplicationSettings) -> dict[str, Any]:
        """Returns the settings with which trained weights learn further from a few images and keep what they know.

        Args:
            config: Training configuration of the weights.

        Returns:
            Attribute name -> value: stages and learning rate, no validation while training, and no scores that could
            choose an epoch.
        """

    @classmethod
    @abstractmethod
    def keeps_scale(cls, config: ApplicationSettings) -> bool:
        """Returns True if training shows nuclei at the images' own scale, or at random ones around it.

        Args:
            config: Training configuration.

        Returns:
            False if every image is brought to one size.
        """

    @classmethod
    @abstractmethod
    def tiny_settings(cls, config: ApplicationSettings) -> dict[str, Any]:
        """Returns the settings that make a network small enough to be built and trained for a step in seconds.

        Args:
            config: Training configuration of the full network, whose kind of layers stays.

        Returns:
            Attribute name -> value: image size, batch size and widths.
        """

    @classmethod
    @abstractmethod
    def describe_settings(cls, config: ApplicationSettings) -> NetworkInWords:
        """Returns a configuration in words, for people who compare it with a publication.

        Args:
            config: Configuration of the training or of the detection.
        """

    @property
    def training_config(self) -> ApplicationSettings:
        """Configuration of the training.

        Raises:
            ValueError: The model was made from a configuration of the detection alone.
        """
        if self._training_config is None:
            if self.recipe is None:
                raise ValueError("A model made from a configuration alone detects only: load it with its recipe.")
            self._training_config = self.make_config("training", self.recipe.preset, self.recipe.settings)
        return self._training_config

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return self.network.epoch

    @property
    def log_dir(self) -> str:
        """Folder of the training run."""
        return self.network.log_dir

    @property
    def best_path(self) -> Path:
        """Weights file of the run's best epoch."""
        return self.network.best_path

    def hold_run(self) -> AbstractContextManager[None]:
        """Returns a context that holds the training run's folder; see `trainkit.trainee.Trainee.hold_run`."""
        return self.network.hold_run()

    def fit(
        self,
        train: NucleusDataset,
        val: NucleusDataset | None,
        *,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> History:
        """Trains through the stages of the configuration.

        Epochs that a checkpoint has completed are skipped, so a resumed run continues in the stage where it stopped.
        Every epoch writes a checkpoint, a line in `training.csv` and an entry for TensorBoard in `log_dir`. Images are
        preprocessed, augmented and mixed as the settings say.

        Args:
            train: Prepared training set with masks, without preprocessing.
            val: Prepared validation set with masks, without preprocessing, for the validation losses.
            epochs: Last epoch; by default that of the last stage, see `trainkit.stages.lay_out_stages`.
            callbacks: Keras callbacks; their additions to an epoch's logs are written too.

        Returns:
            The losses and scores of this call's epochs.

        Raises:
            ValueError: An image or a setting cannot be used, or there is no validation set.
            TrainingDivergedError: The loss became infinite or NaN.
        """
        from nucleus.augmentation.augmenters import make_augmentation

        config = self.training_config
        if val is None:
            raise ValueError("A network needs images to validate on. Received: val=None")

        def prepare(image: Any) -> Any:
            return preprocess(image, config)

        preprocessing = prepare if config.CLAHE or config.STRETCH else None
        learning, watched = train.for_training(preprocessing, Mixing.of(config)), val.for_training(preprocessing)
        augmentation = make_augmentation(config.AUGMENTATION, mirror=self.mirrors)
        train_stages = self._trainer()
        try:
            logs = train_stages(learning, watched, epochs, augmentation, [_learning_flag(self), *callbacks])
            return History("epoch", logs)
        finally:
            # Callbacks may change the weights at the end, such as to those of the best epoch.
            self._learned = True

    def save(self, path: str | os.PathLike, dtype: str | None = None) -> None:
        """Writes the weights, and beside them the recipe with all changed settings of the configuration.

        Args:
            path: File to write, ending in `.h5`.
            dtype: "float16" halves the file; by default the weights' own dtype.

        Raises:
            ValueError: The model was made from a configuration alone, so its recipe is not known.
            OSError: A file cannot be written.
        """
        if self.recipe is None:
            raise ValueError("A model made from a configuration alone has no recipe to save: load it with its recipe.")
        self.network.save_weights(path, dtype)
        of_recipe = self.make_config("inference", self.recipe.preset, inference_settings(self.recipe.settings))
        self.recipe.with_settings(changed_settings(self.config, of_recipe)).save_beside(path)

    @abstractmethod
    def _begin(self, weights: str, path: Path | None) -> Trainee:
        """Builds the training network with its initial weights; see `begin`."""

    @abstractmethod
    def _load(self, weights: str | os.PathLike) -> Trainee:
        """Builds the detection network and loads its weights."""

    @abstractmethod
    def _trainer(self) -> Callable[..., dict[str, list[float]]]:
        """Makes the network ready to learn.

        Returns:
            Method of the network that trains through the stages of its configuration. Its arguments are the data sets
            to learn from and to validate on, the total of epochs, an augmenter and callbacks.
        """


PUBLISHED_WEIGHTS = ("coco", "imagenet")


def _learning_flag(model: NetworkModel) -> keras.callbacks.Callback:
    """Returns a callback that notes after every epoch that the model's weights have changed since it last predicted."""
    import keras

    def learned(*_: Any) -> None:
        model._learned = True

    return keras.callbacks.LambdaCallback(on_epoch_end=learned)
