"""imgaug imports and augments under the installed NumPy."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import trainkit.imgaug_hook
from trainkit.imgaug_compat import iaa

TRAINKIT = Path(trainkit.imgaug_hook.__file__).parent


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


def run_python(*arguments):
    """Runs Python in a process of its own; returns the words that it prints."""
    result = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_a_script_may_import_imgaug_before_this_project():
    """In this environment, as it was installed."""
    assert run_python("-c", "import imgaug; print(imgaug.__version__)") == ["0.4.0"]


def test_the_hook_stands_alone(tmp_path):
    """In an environment that has imgaug and the two files of the hook, but none of this project's packages."""
    shutil.copy(TRAINKIT / "imgaug_hook.py", tmp_path / "keras_nucleus_imgaug.py")
    shutil.copy(TRAINKIT / "keras_nucleus_imgaug.pth", tmp_path)
    script = (
        "import site, sys; sys.path.append(sys.argv[2]); site.addsitedir(sys.argv[1]); print('numpy' in sys.modules); "
        "import imgaug; print(imgaug.__version__, *{'trainkit', 'mrcnn', 'unet', 'nucleus'} & sys.modules.keys())"
    )
    # -I -S: neither PYTHONPATH nor the .pth files of the environment.
    printed = run_python("-I", "-S", "-c", script, str(tmp_path), sysconfig.get_path("purelib"))
    assert printed == ["False", "0.4.0"], "NumPy is imported with imgaug, not at the start"
