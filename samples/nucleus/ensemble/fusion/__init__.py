"""The fusion of a model that finds objects with one that rates pixels.

Mask R-CNN tells touching nuclei apart and knows where each one is; the edges of its masks, of 28 x 28 pixels, are
coarse. A U-Net rates every pixel and merges what touches. The fusion takes from both what they know: for every pixel
near an object the probability that it belongs to that object (a logistic regression on the soft mask, the U-Net's
channels and distances to outlines), for every object the probability that it is a nucleus; objects compete for pixels.

    model = load_model("fusion", settings={"OBJECTS": "mask_rcnn.h5", "PIXELS": "unet.h5"})
    history = model.fit(dataset, None)    # images with masks that neither was trained on
    model.save("fusion.json")
    labels, scores = load_model("fusion.json").predict(image)[0]
"""
