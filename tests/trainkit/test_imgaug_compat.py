"""imgaug imports and augments under the installed NumPy."""

import subprocess
import sys

import numpy as np
import pytest

from trainkit.imgaug_compat import ia, iaa


def test_version_is_the_one_the_table_was_made_for():
    assert ia.__version__ == "0.4.0"


@pytest.mark.parametrize(
    ("augmenter", "reference"),
    [
        (iaa.Fliplr(1.0), np.fliplr),
        (iaa.Flipud(1.0), np.flipud),
        (iaa.Rot90(1, keep_size=False), lambda image: np.rot90(image, -1)),
        (iaa.Multiply(0.5), lambda image: np.round(image * 0.5).astype(np.uint8)),
    ],
)
def test_augmenters_do_what_numpy_does(augmenter, reference):
    image = (np.random.default_rng(0).integers(0, 128, (12, 20, 3)) * 2).astype(np.uint8)
    np.testing.assert_array_equal(augmenter(image=image), reference(image))


def test_a_label_image_follows_its_image():
    labels = np.zeros((16, 16, 1), np.int32)
    labels[2:5, 3:9] = 7
    image = np.repeat(labels.astype(np.uint8), 3, axis=2)
    augmenter = iaa.Affine(rotate=90, order=0)
    turned, segmentation = augmenter(image=image, segmentation_maps=labels[None])
    np.testing.assert_array_equal(segmentation[0, ..., 0], turned[..., 0])
    assert (segmentation == 7).sum() == 18


def test_a_script_may_import_imgaug_before_anything_of_ours():
    script = "import sys, imgaug; print(imgaug.__version__, 'trainkit.numpy_compat' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["0.4.0", "True"], result.stderr


def test_python_starts_without_numpy():
    script = "import sys; print('trainkit.imgaug_hook' in sys.modules, 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["True", "False"], result.stderr
