"""Region proposal network (Ren et al. 2015) on a feature pyramid (Lin et al. 2017).

- `head`: the convolutions that score and refine every anchor.
- `targets`: labels and box deltas of the anchors that train it, in NumPy.
- `sampling`: the head at those anchors only, for the gradient.
- `proposals`: from scored anchors to the boxes that go to the second stage.
"""
