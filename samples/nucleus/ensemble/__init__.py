"""The ensemble of several models: predicts the IoU of each one's masks with the truth, and keeps the best.

After "Nuclei segmentation using computer vision", Vuola, 2019, section 4.3.

    model = load_model("ensemble", settings={"MEMBERS": "unet.h5,mask_rcnn.h5"})
    history = model.fit(dataset, None)    # images with masks that no member was trained on
    model.save("ensemble.json")
    labels, scores = load_model("ensemble.json").predict(image)[0]
"""
