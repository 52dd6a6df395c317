"""Teachers: frozen networks whose depth, known up to scale and shift, the student learns.

``hub`` loads any depth estimation model of ``transformers``; ``cache`` keeps what a teacher said, so that only
the first epoch needs it; ``alignment`` makes metric depth of it; ``town`` stands in for a teacher in the town.

How a dataset uses the cache: before training, with the images at network size and not augmented,

    cached = fill_teacher_cache(load_teacher(settings), (s.images[s.present] for s in samples), settings.cache)

and then, in the loader's worker processes (``cached`` is small and can be pickled; no network is needed),

    disparity = cached.lookup(sample.images, sample.present, focal_px)   # [V, H, W], or None: not in the cache
    sample = replace(sample, teacher_disparity=disparity)                # then augment: the map moves with the image

``focal_px`` [V] are the focal lengths (x) of ``sample.rig``; only a teacher of the kind "canonical" needs them.
"""

from __future__ import annotations
