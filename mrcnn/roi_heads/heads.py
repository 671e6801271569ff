"""Box head and mask head. Layer names are the lineage's."""

from __future__ import annotations

from typing import Any

from keras import layers

from mrcnn.layers import BatchNorm
from mrcnn.roi_heads.layers import FoldRois, PointwiseConv2D, PyramidROIAlign, RoIConv2D, UnfoldRois


def build_box_head(rois: Any, image: Any, pyramid: list[Any], config: Any) -> tuple[Any, Any, Any]:
    """Classifies RoIs and refines their boxes (He et al. 2017, figure 4 right, with 1024-wide layers).

    Args:
        rois: float32 `[B, R, 4]`, normalised.
        image: `[B, H, W, C]`, the network's input, whose size decides the pyramid level of each RoI.
        pyramid: [P2, P3, P4, P5], each `[B, h, w, channels]`.
        config: Uses POOL_SIZE, POOL_SAMPLES, ROI_ALIGNED, BOX_HEAD_CHANNELS, FPN_CLASSIF_FC_LAYERS_SIZE, TRAIN_BN and
            NUM_CLASSES.

    Returns:
        Class logits `[B, R, K]`, class probabilities `[B, R, K]`, deltas `[B, R, K, 4]`, float32.
    """
    width, train_bn, classes = config.FPN_CLASSIF_FC_LAYERS_SIZE, config.TRAIN_BN, config.NUM_CLASSES
    align = PyramidROIAlign(config.POOL_SIZE, config.POOL_SAMPLES, config.ROI_ALIGNED, name="roi_align_classifier")
    x = FoldRois(name="roi_fold_classifier")(align([rois, image, *pyramid]))
    if config.BOX_HEAD_CHANNELS:
        x = layers.Conv2D(config.BOX_HEAD_CHANNELS, 3, padding="same", name="mrcnn_class_conv0")(x)
        x = BatchNorm(train_bn, name="mrcnn_class_bn0")(x)
        x = layers.Activation("relu", name="mrcnn_class_relu0")(x)
    x = RoIConv2D(width, config.POOL_SIZE, name="mrcnn_class_conv1")(x)
    x = BatchNorm(train_bn, name="mrcnn_class_bn1")(x)
    x = layers.Activation("relu", name="mrcnn_class_relu1")(x)
    x = RoIConv2D(width, 1, name="mrcnn_class_conv2")(x)
    x = BatchNorm(train_bn, name="mrcnn_class_bn2")(x)
    x = layers.Activation("relu", name="mrcnn_class_relu2")(x)
    shared = UnfoldRois((width,), name="pool_squeeze")([x, rois])
    logits = layers.Dense(classes, name="mrcnn_class_logits", dtype="float32")(shared)
    probabilities = layers.Activation("softmax", name="mrcnn_class", dtype="float32")(logits)
    deltas = layers.Dense(4 * classes, name="mrcnn_bbox_fc", dtype="float32")(shared)
    deltas = layers.Reshape((-1, classes, 4), name="mrcnn_bbox", dtype="float32")(deltas)
    return logits, probabilities, deltas


class MaskHead:
    """Predicts a mask for every class in every RoI (He et al. 2017, figure 4 right).

    The object holds its layers, so that one set of weights serves several graphs.

    Args:
        config: Uses MASK_POOL_SIZE, POOL_SAMPLES, ROI_ALIGNED, MASK_CHANNELS, MASK_END_CHANNELS, MASK_ACTIVATION,
            TRAIN_BN and NUM_CLASSES.
    """

    def __init__(self, config: Any):
        channels = config.MASK_CHANNELS
        self.align = PyramidROIAlign(
            config.MASK_POOL_SIZE, config.POOL_SAMPLES, config.ROI_ALIGNED, name="roi_align_mask"
        )
        self.fold = FoldRois(name="roi_fold_mask")
        self.stack = []
        for index in range(1, 5):
            self.stack += [
                layers.Conv2D(channels, 3, padding="same", name=f"mrcnn_mask_conv{index}"),
                BatchNorm(config.TRAIN_BN, name=f"mrcnn_mask_bn{index}"),
                layers.Activation("relu", name=f"mrcnn_mask_relu{index}"),
            ]
        self.stack.append(layers.Conv2DTranspose(channels, 2, strides=2, activation="relu", name="mrcnn_mask_deconv"))
        if config.MASK_END_CHANNELS:
            end = layers.Conv2D(config.MASK_END_CHANNELS, 3, padding="same", activation="relu", name="mrcnn_mask_conv5")
            self.stack.append(end)
        self.unfold = UnfoldRois(name="roi_unfold_mask")
        self.predict = PointwiseConv2D(
            config.NUM_CLASSES, activation=config.MASK_ACTIVATION, name="mrcnn_mask", dtype="float32"
        )

    def __call__(self, rois: Any, image: Any, pyramid: list[Any]) -> Any:
        """Predicts the masks of RoIs.

        Args:
            rois: float32 `[B, R, 4]`, normalised.
            image: `[B, H, W, C]`, the network's input.
            pyramid: [P2, P3, P4, P5], each `[B, h, w, channels]`.

        Returns:
            Mask probabilities float32 `[B, R, *MASK_SHAPE, K]`.
        """
        x = self.fold(self.align([rois, image, *pyramid]))
        for layer in self.stack:
            x = layer(x)
        return self.predict(self.unfold([x, rois]))
