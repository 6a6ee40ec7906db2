"""In-distribution images, all classes of a set or some, and images of other sets."""

import numpy as np
from PIL import Image

from contrastive_jax.data import array_batches
from contrastive_jax.data import images as sets
from contrastive_jax.tasks import images


def batches(config, start_step):
    """Shuffled images and labels of the classes that are trained on."""
    data = config.data
    total = images.num_classes(data)
    others = data.others if "others" in data.out else ()
    if max([data.known, *(x + 1 for x in others)]) > total:
        raise ValueError(
            f"data.known, data.others: expected classes of {data.name}, which has "
            f"{total}, got {data.known} and {others}"
        )
    classes = -(-(data.known or total) // data.merge)
    if classes != config.loss.num_classes:
        raise ValueError(
            f"loss.num_classes: expected {classes} (of {data.name}), got "
            f"{config.loss.num_classes}"
        )
    if not data.known and data.merge == 1:
        order = dict(seed=config.seed, start_step=start_step)
        return images.batches(data, **order, labels=True)
    image, label = inside(config, "train")
    return array_batches(
        {"image": image, "label": label},
        batch_size=data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def inside(config, split, limit=0):
    """Images and labels of a split of the classes that are trained on."""
    image, label = whole(config.data, config.data.name, split, limit)
    kept = label < (config.data.known or label.max() + 1)
    return image[kept], label[kept] // config.data.merge


def outside(config):
    """{name: images} of what is not trained on, in the shape of what is."""
    data, limit, out = config.data, config.eval.out_limit, {}
    like, _ = inside(config, "test", 1)
    for name in data.out:
        if name == "others":
            # No row of these classes was trained on.
            split = "test" if config.eval.split == "test" else "train"
            image, label = whole(data, data.name, split, limit)
            out[name] = image[np.isin(label, data.others)]
        else:
            image, _ = whole(data, name, "test", limit)
            out[name] = resized(image, like.shape[1:])
    return out


def whole(data, name, split, limit):
    """All rows of a split, or `limit` rows spread over it."""
    place = dict(images.place(data), size=data.size)
    held_out = 0.0 if split == "test" else data.held_out
    if split == "test" and name == data.name:
        split = data.test_split
    parts = list(
        sets.one_pass(
            name, split, **place, held_out=held_out, batch_size=1000, limit=limit
        )
    )
    image, label = (np.concatenate(x) for x in zip(*parts, strict=True))
    return image, label


def resized(image, shape):
    """uint8 images of another size and number of channels, bilinear."""
    height, width, channels = shape
    if image.shape[1:] == tuple(shape):
        return image
    mode = "L" if channels == 1 else "RGB"

    def one(x):
        picture = Image.fromarray(x[..., 0] if x.shape[-1] == 1 else x).convert(mode)
        return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))

    return np.stack([one(x) for x in image]).reshape(-1, *shape)
