"""The ensemble of several models: predicts the IoU of each one's masks with the truth, and keeps the best.

After "Nuclei segmentation using computer vision", Vuola, 2019, section 4.3.

    files = {"unet": "unet.h5", "mask_rcnn": "mask_rcnn.h5"}
    model = EnsembleModel({name: load_model(file) for name, file in files.items()}, files=files)
    fitted = model.fit(dataset)       # images with masks that no member was trained on
    model.save("ensemble.json")
    labels, scores = load_model("ensemble.json").predict(image)[0]
"""
