"""Second stage of Mask R-CNN (He et al. 2017): classes, refined boxes and masks of the proposals.

- `heads`: the box head and the mask head.
- `layers`: pooling and convolutions of RoIs, which the heads are made of.
- `targets`: the RoIs that train the heads, with their targets, inside the network.
- `debug_targets`: RoIs and targets in NumPy, for training without the RPN and for notebooks.
- `detections`: from classified RoIs to the detections of an image.
"""
