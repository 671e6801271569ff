"""Tasks of torchvision's Mask R-CNN (ResNet-50 FPN) for `peers.py`; needs torch, torchvision and NumPy."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from peer_loop import Task, serve
from torchvision.models.detection import maskrcnn_resnet50_fpn


def build(job: dict[str, Any]) -> torch.nn.Module:
    """Returns the network with random weights and the settings of the job."""
    torch.manual_seed(0)
    mean, deviation = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=2,
        min_size=job["size"],
        max_size=job["size"],
        image_mean=mean,
        image_std=deviation,
        rpn_pre_nms_top_n_train=job["pre_nms"],
        rpn_pre_nms_top_n_test=job["pre_nms"],
        rpn_post_nms_top_n_train=job["training_proposals"],
        rpn_post_nms_top_n_test=job["proposals"],
        rpn_batch_size_per_image=job["training_anchors"],
        box_batch_size_per_image=job["training_rois"],
        box_detections_per_img=job["detections"],
        # Random weights see an object of a score of about a half everywhere: as many are left as there can be.
        box_score_thresh=0.0,
        box_nms_thresh=job["nms_threshold"],
        trainable_backbone_layers=5,
    )


def read_images(job: dict[str, Any]) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Returns the job's images, float32 `[3, H, W]` in 0..1, and their nuclei as torchvision wants them."""
    arrays = np.load(job["images"])
    images, targets = [], []
    for image, labels in zip(arrays["images"], arrays["labels"], strict=True):
        images.append(torch.from_numpy(image).permute(2, 0, 1).float() / 255)
        masks = [labels == label for label in np.unique(labels) if label]
        places = [np.nonzero(mask) for mask in masks]
        boxes = [(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) for ys, xs in places]
        targets.append(
            {
                "boxes": torch.tensor(np.array(boxes), dtype=torch.float32),
                "labels": torch.ones(len(boxes), dtype=torch.int64),
                "masks": torch.from_numpy(np.stack(masks).astype(np.uint8)),
            }
        )
    return images, targets


def precision(bfloat16: bool) -> Any:
    """Returns the context in which operations that can be are computed in bfloat16, or in float32."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else nullcontext()


def detect(job: dict[str, Any], bfloat16: bool) -> Task:
    """Returns the detection of the first image."""
    model = build(job).eval()
    image = read_images(job)[0][0]

    def run() -> int:
        with torch.no_grad(), precision(bfloat16):
            (found,) = model([image])
        return len((found["masks"] > 0.5).numpy())

    return run


def step(job: dict[str, Any], bfloat16: bool) -> Task:
    """Returns a training step of all layers on a batch of images."""
    model = build(job).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    images, targets = (part[: job["batch"]] for part in read_images(job))

    def run() -> int:
        optimizer.zero_grad()
        with precision(bfloat16):
            loss = sum(model(images, targets).values())
        loss.backward()
        optimizer.step()
        return 0

    return run


if __name__ == "__main__":
    serve(
        {
            "detect_float32": lambda job: detect(job, False),
            "detect_bfloat16": lambda job: detect(job, True),
            "step_float32": lambda job: step(job, False),
            "step_bfloat16": lambda job: step(job, True),
        },
        ("torch", "torchvision", "numpy"),
    )
