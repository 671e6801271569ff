"""Named presets: networks and trainings as publications describe them.

Every entry says which settings its source states; settings that a source leaves open are said to be ours.
"""

from __future__ import annotations

from typing import Any

from trainkit.presets import Preset

_ANDRADE = "Nuclei detection based on fully convolutional networks, Rocha de Andrade, UNICAMP"
_LEHMANN = "Semantic segmentation of cells from clinical images using deep learning, Lehmann, Agarwal, Lund, DTU"
_MLP = "Mask R-CNN for nuclei, MLP coursework 4 G1, 2018"
_VUOLA = "Nuclei segmentation using computer vision, Vuola, Aalto University, 2019"
_ZHANG = "Instance Segmentation of Nucleus Images, Zhang, Wei, Yue, 2018"

# Plain cross-entropy on one channel, and its components as nuclei: without the additions of later U-Nets.
_BASIC = {
    "TARGETS": "mask",
    "LOSS": "bce",
    "POSTPROCESS": "components",
    "FILL_HOLES": False,
    "DECAY_EPOCHS": 0,
}


def _small() -> Preset:
    """Baseline of the MLP report: 1,941,105 weights on images resized to 128 x 128.

    The report gives size and number of weights, which are those of the U-Net that most entrants of the 2018 Data
    Science Bowl started from (K. Åmdal-Sævik, "Keras U-Net starter", Kaggle). Filters, ELU, He initialisation,
    dropout, Adam, batches of 16 and 50 epochs are that network's, and so is predicting on resized images.
    """
    return Preset(
        summary="16…256 filters, ELU, dropout, 128 x 128, mask only",
        source=_MLP,
        settings={
            **_BASIC,
            "ENCODER": "plain",
            "ENCODER_FILTERS": (16, 32, 64, 128, 256),
            "DECODER": "plain",
            "ACTIVATION": "elu",
            "BATCH_NORM": False,
            "KERNEL_INITIALIZER": "he_normal",
            "DROPOUT": (0.1, 0.1, 0.2, 0.2, 0.3),
            "IMAGE_MODE": "resize",
            "INFERENCE_MODE": "resize",
            "IMAGE_SIZE": 128,
            "BATCH_SIZE": 16,
            "STEPS_PER_EPOCH": 38,
            "VALIDATION_STEPS": 4,
            "STAGES": (("all", 50, 0.001),),
        },
    )


def _original(**changes: Any) -> Preset:
    """U-Net of sections 5.2 and 5.3 of Lehmann, Agarwal and Lund: that of Ronneberger et al. 2015, zero-padded.

    Their last convolution is 3 x 3, which gives 31,032,257 weights; the ReLU that they have between it and the sigmoid
    is left out, since no pixel would be below 0.5, their threshold. They train twice with batches of six: SGD at 0.1
    with an L2 of 1e-5 for 900 epochs, then Adam at 1e-5 with an L2 of 1e-3 for 50 epochs from those weights. An epoch
    is the 85 training images. Momentum is not mentioned, so there is none; He initialisation is Ronneberger's (section
    3). Whole images are resized, in prediction too: to a square, whatever
    their shape, so images that should keep their aspect ratio are to be padded first, as `nucleus convert --fit=512`
    does. Their L2 is PyTorch's weight decay, which adds it times a weight to the weight's gradient: half of it is the
    factor of the sum of squares. PyTorch applies it to biases too, here it is for kernels alone.
    """
    return Preset(
        summary=f"64…1024 filters, zero-padded, 512 x 512, mask only, {changes.pop('summary')}",
        source=_LEHMANN,
        settings={
            **_BASIC,
            "ENCODER": "plain",
            "ENCODER_FILTERS": (64, 128, 256, 512, 1024),
            "DECODER": "plain",
            "LOGITS_SIZE": 3,
            "ACTIVATION": "relu",
            "BATCH_NORM": False,
            "KERNEL_INITIALIZER": "he_normal",
            "IMAGE_MODE": "resize",
            "INFERENCE_MODE": "resize",
            "IMAGE_SIZE": 512,
            "BATCH_SIZE": 6,
            "STEPS_PER_EPOCH": 14,
            "VALIDATION_STEPS": 4,
            **changes,
        },
    )


def _andrade(summary: str, **changes: Any) -> Preset:
    """Networks of sections 5 and 6 of Rocha de Andrade.

    Three channels, watershed, the sum of cross-entropy and soft Dice, SELU, batch norm after every convolution,
    Glorot initialisation, whole images resized to 256 x 256, Adam, and a learning rate that loses a quarter every
    three epochs. Twenty epochs: pretrained encoders stay frozen in the first five (section 6.2). The watershed labels
    what its markers reach (section 5.3.1), so a region without a marker is no nucleus. Widths of the decoders, the
    ratio of the squeeze and the batch of eight are ours, and so are 80 steps an epoch, about a pass over the contest's
    images.
    """
    return Preset(
        summary=summary,
        source=_ANDRADE,
        settings={
            "ENCODER_WEIGHTS": "imagenet",
            "DECODER": "plain",
            "ACTIVATION": "selu",
            "BATCH_NORM": True,
            "KERNEL_INITIALIZER": "glorot_uniform",
            "TARGETS": "mask-borderless-touching",
            "LOSS": "bce-dice",
            "OPTIMIZER": "Adam",
            "LEARNING_RATE": 0.001,
            "LEARNING_RATE_DECAY": 0.25,
            "DECAY_EPOCHS": 3,
            "STAGES": (("decoder", 5, 0.001), ("all", 15, 0.0001)),
            "IMAGE_MODE": "resize",
            "IMAGE_SIZE": 256,
            "POSTPROCESS": "watershed",
            "KEEP_UNMARKED": False,
            **changes,
        },
    )


def _vuola(depth: int, fpn: bool) -> Preset:
    """U-Nets of sections 4.1 and 4.4 of Vuola: a ResNet trained on ImageNet as encoder.

    Mask and border channels, watershed from mask minus border, nuclei under 10 pixels dropped, holes filled, random
    crops among the augmentations. What the watershed's markers do not reach is no nucleus. Loss, optimizer, rates,
    epochs and widths are not in the text: those are ours.
    """
    return Preset(
        summary=f"ResNet-{depth} encoder{', FPN decoder' if fpn else ''}, 256 x 256 windows, mask and border",
        source=_VUOLA,
        settings={
            "ENCODER": f"resnet{depth}",
            "ENCODER_WEIGHTS": "imagenet",
            "DECODER": "fpn" if fpn else "plain",
            "ACTIVATION": "relu",
            "TARGETS": "mask-border",
            "POSTPROCESS": "watershed",
            "KEEP_UNMARKED": False,
            "MIN_AREA": 10,
            "FILL_HOLES": True,
            "IMAGE_MODE": "crop",
            "IMAGE_SIZE": 256,
        },
    )


def _fcn8s() -> Preset:
    """FCN-8s of section 3.3 of Zhang, Wei and Yue (Shelhamer et al. 2017) on VGG16, then a morphological opening.

    ImageNet weights, ReLU, dropout of one half in the two fully convolutional layers, Adam at 1e-5, 12000 steps that
    they call epochs, evaluated every 2000. They started from M. Teichmann's KittiSeg, which also has 12000 steps and
    1e-5: batches of one image, cross-entropy, L2 of 5e-4 and clipped gradients are KittiSeg's. Its L2 is of half the
    sum of squares (TensorFlow's l2_loss). Components that the erosion removes are no nuclei, which is what an opening
    is for. Windows of 256 pixels are ours. The two fully convolutional layers begin with random weights: the published
    file of VGG16 that is loaded ends before them.
    """
    return Preset(
        summary="VGG16, FCN-8s, 256 x 256 windows, mask only, morphological opening",
        source=_ZHANG,
        settings={
            **_BASIC,
            "ENCODER": "vgg16",
            "ENCODER_WEIGHTS": "imagenet",
            "DECODER": "fcn8s",
            "ACTIVATION": "relu",
            "BATCH_NORM": False,
            "DROPOUT": 0.5,
            "OPTIMIZER": "Adam",
            "LEARNING_RATE": 0.00001,
            "WEIGHT_DECAY": 0.0005 / 2,
            "GRADIENT_CLIP_NORM": 1.0,
            "BATCH_SIZE": 1,
            "STEPS_PER_EPOCH": 2000,
            "VALIDATION_STEPS": 67,
            "STAGES": (("all", 6, 0.00001),),
            "IMAGE_MODE": "crop",
            "IMAGE_SIZE": 256,
            "POSTPROCESS": "opening",
            "KEEP_UNMARKED": False,
        },
    )


def _efficientnet_lite0() -> Preset:
    """A small pretrained encoder and a narrow decoder: a network that trains and predicts well on a processor.

    4.3 million weights. 16 features of the image at full resolution stand in for those that the encoder, which begins
    by halving it, does not have. One stage trains everything, in windows at half to twice the image's size and any
    angle; what is small among the groups of images is drawn more than its number.
    """
    return Preset(
        summary="EfficientNet-Lite0 encoder, narrow plain decoder, 256 x 256 windows, three channels, watershed",
        source="Tan and Le, EfficientNet (2019), in its Lite form; recipe by this project",
        settings={
            "ENCODER": "efficientnet-lite0",
            "ENCODER_WEIGHTS": "imagenet",
            "DECODER": "plain",
            "DECODER_FILTERS": (160, 96, 64, 48, 32),
            "IMAGE_SKIP_FILTERS": 16,
            "ACTIVATION": "relu",
            "BATCH_NORM": True,
            "KERNEL_INITIALIZER": "he_normal",
            "TARGETS": "mask-borderless-touching",
            "LOSS": "bce-dice",
            "OPTIMIZER": "AdamW",
            "LEARNING_RATE": 0.001,
            "WEIGHT_DECAY": 0.01,
            "GRADIENT_CLIP_NORM": 1.0,
            "SCHEDULE": "cosine",
            "WARMUP_STEPS": 100,
            "AVERAGE_MOMENTUM": 0.997,
            "STAGES": (("all", 32, 0.001),),
            "STEPS_PER_EPOCH": 100,
            "BATCH_SIZE": 8,
            "PRECISION": "auto",
            "BALANCE_POWER": 0.5,
            "IMAGE_MODE": "crop",
            "IMAGE_SIZE": 256,
            "CROP_SCALES": (0.5, 2.0),
            "CROP_ROTATION": 45.0,
            "POSTPROCESS": "watershed",
        },
    )


# Preset by name. A new one is an entry.
PRESETS: dict[str, Preset] = {
    "small": _small(),
    "original": _original(
        summary="SGD",
        OPTIMIZER="SGD",
        LEARNING_RATE=0.1,
        LEARNING_MOMENTUM=0.0,
        WEIGHT_DECAY=0.00001 / 2,
        STAGES=(("all", 900, 0.1),),
    ),
    "original-tuned": _original(
        summary="Adam, to go on from the weights of `original`",
        OPTIMIZER="Adam",
        LEARNING_RATE=0.00001,
        WEIGHT_DECAY=0.001 / 2,
        STAGES=(("all", 50, 0.00001),),
    ),
    "plain-bn": _andrade(
        "64…1024 filters, symmetric padding, batch norm, SELU, 256 x 256, three channels, watershed",
        ENCODER="plain",
        PADDING="symmetric",
        ENCODER_FILTERS=(64, 128, 256, 512, 1024),
        ENCODER_WEIGHTS=None,
        STAGES=(("all", 20, 0.001),),
    ),
    "xception": _andrade("Xception encoder, plain decoder, three channels, watershed", ENCODER="xception"),
    "xception-inceptionse": _andrade(
        "Xception encoder, Inception and squeeze-and-excitation decoder, three channels, watershed",
        ENCODER="xception",
        DECODER="inception-se",
    ),
    **{
        f"resnet{depth}{'-fpn' if fpn else ''}": _vuola(depth, fpn) for fpn in (False, True) for depth in (50, 101, 152)
    },
    "fcn8s": _fcn8s(),
    "efficientnet-lite0": _efficientnet_lite0(),
}
