"""A training script as users of matterport's Mask_RCNN 2.1 write them: nothing in it knows of this project."""

import os
import sys

import imgaug
import numpy as np

import mrcnn.model as modellib
from mrcnn import utils, visualize
from mrcnn.config import Config
from mrcnn.model import log

ROOT_DIR = os.path.abspath(sys.argv[1])
MODEL_DIR = os.path.join(ROOT_DIR, "logs")
COCO_WEIGHTS_PATH = os.path.join(ROOT_DIR, "mask_rcnn_coco.h5")
if not os.path.exists(COCO_WEIGHTS_PATH):
    utils.download_trained_weights(COCO_WEIGHTS_PATH)


class ToyConfig(Config):
    NAME = "toy"
    BACKBONE = "resnet50"
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    NUM_CLASSES = 1 + 2
    IMAGE_MIN_DIM = 64
    IMAGE_MAX_DIM = 64
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    TOP_DOWN_PYRAMID_SIZE = 16
    FPN_CLASSIF_FC_LAYERS_SIZE = 32
    TRAIN_ROIS_PER_IMAGE = 8
    PRE_NMS_LIMIT = 60
    POST_NMS_ROIS_TRAINING = 30
    POST_NMS_ROIS_INFERENCE = 20
    STEPS_PER_EPOCH = 1
    VALIDATION_STEPS = 1


class ToyDataset(utils.Dataset):
    def load_toys(self, count):
        self.add_class("toys", 1, "box")
        self.add_class("toys", 2, "bar")
        for number in range(count):
            self.add_image("toys", image_id=number, path=None, seed=number, size=(60, 72))
        return self

    def load_image(self, image_id):
        info = self.image_info[image_id]
        image = np.ones([*info["size"], 3], dtype=np.uint8) * 30
        mask, class_ids = self.load_mask(image_id)
        for i in range(mask.shape[-1]):
            image[mask[:, :, i]] = (220, 60 * class_ids[i], 90)
        return image

    def load_mask(self, image_id):
        info = self.image_info[image_id]
        mask = np.zeros([*info["size"], 3], dtype=np.uint8)
        for i, column in enumerate((4, 28, 50)):
            row = 5 + 7 * ((info["seed"] + i) % 4)
            mask[row : row + 20, column : column + (18 if i % 2 else 12), i] = 1
        return mask.astype(bool), np.array([1, 2, 1], dtype=np.int32)

    def image_reference(self, image_id):
        info = self.image_info[image_id]
        return info["seed"] if info["source"] == "toys" else super().image_reference(image_id)


config = ToyConfig()
config.display()
dataset_train = ToyDataset().load_toys(3)
dataset_train.prepare()
dataset_val = ToyDataset().load_toys(2)
dataset_val.prepare()

for image_id in np.random.choice(dataset_train.image_ids, 2):
    image = dataset_train.load_image(image_id)
    mask, class_ids = dataset_train.load_mask(image_id)
    visualize.display_top_masks(image, mask, class_ids, dataset_train.class_names)

model = modellib.MaskRCNN(mode="training", config=config, model_dir=MODEL_DIR)
model.load_weights(
    COCO_WEIGHTS_PATH,
    by_name=True,
    exclude=["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"],
)
augmentation = imgaug.augmenters.Sometimes(0.5, [imgaug.augmenters.Fliplr(0.5), imgaug.augmenters.GaussianBlur((0, 1))])
model.train(dataset_train, dataset_val, learning_rate=config.LEARNING_RATE, epochs=1, layers="heads")
model.train(
    dataset_train,
    dataset_val,
    learning_rate=config.LEARNING_RATE / 10,
    epochs=2,
    layers="all",
    augmentation=augmentation,
)


class InferenceConfig(ToyConfig):
    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    DETECTION_MIN_CONFIDENCE = 0


inference_config = InferenceConfig()
model = modellib.MaskRCNN(mode="inference", config=inference_config, model_dir=MODEL_DIR)
model_path = model.find_last()
model.load_weights(model_path, by_name=True)

image_id = dataset_val.image_ids[0]
image, image_meta, gt_class_id, gt_bbox, gt_mask = modellib.load_image_gt(
    dataset_val, inference_config, image_id, use_mini_mask=False
)
log("image", image)
log("image_meta", image_meta)
log("gt_mask", gt_mask)
visualize.display_instances(image, gt_bbox, gt_mask, gt_class_id, dataset_val.class_names, figsize=(8, 8))

results = model.detect([image], verbose=1)
r = results[0]
visualize.display_instances(image, r["rois"], r["masks"], r["class_ids"], dataset_val.class_names, r["scores"])

AP, precisions, recalls, overlaps = utils.compute_ap(
    gt_bbox, gt_class_id, gt_mask, r["rois"], r["class_ids"], r["scores"], r["masks"]
)
print("mAP: ", np.mean([AP]))
