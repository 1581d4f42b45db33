"""Small image files for tests."""

import numpy as np
from PIL import Image


def scene(height, width, seed=0, grey=False):
    """An image that is smooth, as photographs are, and of which no part is like another."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 5) if grey else (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def put(folder, name, image, **how):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)
    return path
