"""Trains a tiny U-Net and a tiny Mask R-CNN on two virtual devices and on one, and writes the weights.

two_devices.py FOLDER {unet,mask_rcnn}...
"""

import os
import sys
from pathlib import Path

# Before the backends start. Compiling without optimisation is quicker than the few steps would become.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2 --xla_backend_optimization_level=0"

import keras
import numpy as np

from trainkit.checkpoint import synchronise


def virtual_devices():
    """Divides TensorFlow's processor in two; JAX reads XLA_FLAGS. TensorFlow runs step by step, which is quicker."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        (processor,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
        tf.config.run_functions_eagerly(True)


def save_weights(model, folder, name, **more):
    """Writes the weights, and more arrays by name, into a file."""
    weights = [keras.ops.convert_to_numpy(weight) for weight in model.keras_model.weights]
    np.savez(Path(folder) / f"{name}.npz", *weights, **more)


def train_mask_rcnn(devices, folder):
    """Trains two steps of a Mask R-CNN with four images each, whose numbers of objects differ; returns the model."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "mrcnn"))
    from conftest import Shapes, make_config

    from mrcnn.model import MaskRCNN

    config = make_config(
        GPU_COUNT=devices,
        IMAGES_PER_GPU=4 // devices,
        STEPS_PER_EPOCH=2,
        VALIDATION_STEPS=0,
        # More proposals than RoIs, so that which of them are drawn matters.
        TRAIN_ROIS_PER_IMAGE=12,
        # Clipped in every step.
        GRADIENT_CLIP_NORM=1.0,
        # Before training, without an RPN that finds them, RoIs are those near objects.
        USE_RPN_ROIS=False,
        LEARNING_MOMENTUM=0.5,
    )
    keras.utils.set_random_seed(1)
    model = MaskRCNN("training", config, folder)
    save_weights(model, folder, "mask_rcnn_start")
    data = Shapes(objects=(1, 6, 3, 0))
    model.logs = model.train(data, data, 0.05, epochs=1, layers="all").history
    return model


def train_unet(devices, folder):
    """Trains two steps of a U-Net with batch normalisation and soft Dice; returns the model."""
    from unet.config import UNetConfig
    from unet.model import UNet

    class Blobs:
        """Images with more and more nuclei."""

        image_ids = range(4)
        image_info = [{"id": str(index)} for index in range(4)]

        def load_image(self, image_id):
            return np.where(self.load_labels(image_id)[0][..., None] > 0, 200, 20).repeat(3, axis=2).astype(np.uint8)

        def load_labels(self, image_id):
            labels = np.zeros((32, 32), np.int32)
            for nucleus in range(2 * image_id):
                y, x = 3 + 10 * (nucleus // 3), 3 + 10 * (nucleus % 3)
                labels[y : y + 7, x : x + 7] = nucleus + 1
            return labels, np.ones(2 * image_id, np.int32)

    settings = {
        "ENCODER": "plain",
        "ENCODER_FILTERS": (4, 8),
        "DECODER": "plain",
        "BATCH_SIZE": 4,
        "IMAGE_SIZE": 32,
        "STEPS_PER_EPOCH": 2,
        "VALIDATION_STEPS": 0,
        "OPTIMIZER": "SGD",
        "STAGES": (("all", 1, 0.1),),
        "WEIGHT_DECAY": 0.001,
        "AVERAGE_MOMENTUM": 0.5,
        "DATA_WORKERS": 0,
    }
    model = UNet(UNetConfig.from_preset(settings=settings), folder)
    save_weights(model, folder, "unet_start")
    # As of a network that was loaded to predict and is then trained.
    model.config = UNetConfig.from_preset(settings={**settings, "GPU_COUNT": devices})
    model.logs = model.train(Blobs(), Blobs())
    model.predict([np.zeros((40, 40, 3), np.uint8)])
    return model


def quick_initial_weights():
    """Draws initial kernels with NumPy: JAX would compile that for every shape."""

    def draw(self, shape, dtype=None):
        fans = np.prod(shape[:-2]) * (shape[-2] + shape[-1])
        return np.random.uniform(-1, 1, shape).astype(np.float32) * np.sqrt(6 / fans)

    keras.initializers.VarianceScaling.__call__ = draw


def main(folder, *kinds):
    """Trains kinds of networks on two devices and on one; writes the weights of each into `<kind>_<devices>.npz`."""
    virtual_devices()
    quick_initial_weights()
    for kind in kinds:
        for devices in (2, 1):
            model = {"unet": train_unet, "mask_rcnn": train_mask_rcnn}[kind](devices, folder)
            synchronise(model.keras_model)
            save_weights(model, folder, f"{kind}_{devices}", **model.logs)


if __name__ == "__main__":
    main(*sys.argv[1:])
