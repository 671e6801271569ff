"""Several trained networks as one: U-Nets average, Mask R-CNNs vote."""

from types import SimpleNamespace

import numpy as np
import pytest

from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.pixelwise import mean_probabilities
from nucleus.models.registry import make_config
from nucleus.models.tta import Joint, TestTimeAugmentation
from nucleus.models.unet import UNetModel
from nucleus.models.views import make_views

IMAGE = np.zeros((12, 12, 3), np.uint8)


class FakeUNet(UNetModel):
    """Gives every pixel the same probability."""

    def __init__(self, value, **settings):
        super().__init__(None, make_config("inference", "original", settings, "unet"))
        self.network = SimpleNamespace(
            predict=lambda images: [np.full((*image.shape[:2], 1), value, np.float32) for image in images]
        )


class FakeMaskRCNN(MaskRCNNModel):
    """Finds the same boxes, filled, in every view."""

    def __init__(self, boxes, scores, **settings):
        super().__init__(None, make_config("inference", settings=settings))
        found = SimpleNamespace(
            boxes=np.array(boxes),
            scores=np.array(scores),
            limit_reached=False,
            crop=lambda index: self.mask(boxes[index]) > 0,
            crop_probabilities=lambda index: self.mask(boxes[index]),
        )
        self.network = SimpleNamespace(mode="inference", detect_instances=lambda images, _: [found] * len(images))

    @staticmethod
    def mask(box):
        return np.ones((box[2] - box[0], box[3] - box[1]))


def test_u_nets_of_several_folds_average_their_probabilities():
    model = Joint([FakeUNet(0.2, MASK_THRESHOLD=0.55), FakeUNet(0.9, MASK_THRESHOLD=0.99)])
    (evidence,) = model.observe([IMAGE])
    np.testing.assert_allclose(mean_probabilities(evidence), 0.55)
    ((labels, scores),) = model.predict(IMAGE)
    assert labels.min() == 0, "the first one's threshold holds"
    ((labels, scores),) = Joint([FakeUNet(0.2), FakeUNet(0.9)]).predict(IMAGE)
    assert labels.min() == 1 and scores.shape == (1,)


def test_mask_rcnns_of_several_folds_vote():
    common, missed, alone = [0, 0, 5, 5], [6, 6, 11, 11], [0, 7, 4, 11]
    model = Joint(
        [
            FakeMaskRCNN([common, missed], [0.9, 0.8]),
            FakeMaskRCNN([common, missed], [0.7, 0.8]),
            FakeMaskRCNN([common, alone], [0.8, 0.9]),
        ]
    )
    ((labels, scores),) = model.predict(IMAGE)
    expected = np.zeros((12, 12), np.int32)
    expected[:5, :5], expected[6:11, 6:11] = 1, 2
    np.testing.assert_array_equal(labels, expected)
    # The second nucleus counts for what two of three say of it; the one that a single model shows is gone.
    np.testing.assert_allclose(scores, [0.8, 1.6 / 3], rtol=1e-6)


def test_views_of_every_mask_rcnn_have_a_vote_and_its_settings_hold():
    first = FakeMaskRCNN([[0, 0, 12, 12]], [0.9], MIN_AREA=145)
    model = Joint([TestTimeAugmentation(first, make_views("flips")), FakeMaskRCNN([[0, 6, 6, 12]], [0.9], MIN_AREA=1)])
    assert model.predict(IMAGE)[0].labels.max() == 0, "too small, and too rare: one view of five"
    first.config.MIN_AREA = 144
    ((labels, scores),) = model.predict(IMAGE)
    assert (labels == 1).all()
    np.testing.assert_allclose(scores, [0.9 * 4 / 5], rtol=1e-6)


def test_images_are_prepared_once_for_all():
    """The first model's contrast equalisation is what all see, as one data set's was in their trainings."""
    image = np.random.default_rng(0).integers(0, 90, (16, 16, 3), np.uint8)
    models = [FakeUNet(0.9, CLAHE=True), FakeUNet(0.9, CLAHE=True)]
    seen = []
    for model in models:
        model.network.predict = lambda images: [
            seen.append(image) or image[..., :1] / np.float32(255) for image in images
        ]
    Joint(models).predict(image)
    assert len(seen) == 2 and all(np.array_equal(one, models[0].prepare(image)) for one in seen)


@pytest.mark.parametrize("alone", [FakeUNet(0.9), FakeMaskRCNN([[0, 0, 5, 5], [1, 0, 5, 5]], [0.9, 0.8])])
def test_one_network_is_itself(alone):
    (one,), (other,) = Joint([alone]).predict(IMAGE), alone.predict(IMAGE)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert one.labels.max() > 0
