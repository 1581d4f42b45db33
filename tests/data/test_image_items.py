"""Images out of data sets: what image files of the same pixels give, bit for bit, and what is drawn for each view."""

import random

import numpy as np
import pytest
import torch
from image_makers import put, scene
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from limbeck.data.conversion import as_examples
from limbeck.data.image_items import ImageItems
from limbeck.data.images import ImageFiles
from limbeck.data.viewing import Viewing, in_parts
from limbeck.errors import DataError, LimbeckWarning
from limbeck.options import Augmentation, ImagePresentation

BOTH = (ImagePresentation(size=16), ImagePresentation(size=24, mean=(0.5,), std=(0.5,), crop_pct=1.0))


class Photographs(Dataset):
    """Images of Pillow with their class; a transform of one's own may draw."""

    def __init__(self, images, transform=None):
        self.images, self.transform = images, transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, number):
        image = self.images[number]
        return image if self.transform is None else self.transform(image), number % 2


def photographs(least=112, step=3, grey=None):
    return [scene(least + step * (number % 3), least + number % 2, number, grey=number == grey) for number in range(8)]


@pytest.mark.parametrize("augmentation", [None, Augmentation(augment="trivial", erasing=0.5, view_seed=3)])
def test_items_are_seen_as_files_of_the_same_pixels(tmp_path, augmentation):
    images = photographs(grey=4)
    names = [f"{number}.png" for number in range(8)]
    for name, image in zip(names, images, strict=True):
        put(tmp_path, name, image)
    examples = as_examples(Photographs(images))
    assert isinstance(examples.inputs, ImageItems) and examples.shape == (3, 224, 224)
    rows = torch.tensor([5, 4, 0])
    for source in (examples.inputs, examples.take(torch.arange(8)).inputs):
        found = source.fetch(rows, rows + 7, view=2, augmentation=augmentation, presentations=BOTH)
        files = ImageFiles(tmp_path, names, BOTH[0])
        expected = files.fetch(rows, rows + 7, view=2, augmentation=augmentation, presentations=BOTH)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_what_a_data_set_draws_is_a_function_of_the_view_and_the_example():
    def turned(image):
        return image.rotate(random.uniform(-20, 20)).crop((0, 0, 100, 110))

    examples = as_examples(Photographs(photographs(step=0), turned))
    assert examples.random and examples.shape == (3, 110, 100)
    views = []
    for workers, size in ((0, 8), (1, 3)):
        for augmentation in (None, Augmentation(augment="standard", view_seed=4)):
            viewing = Viewing(examples, augmentation, workers=workers)
            assert viewing.augmentation.own and viewing.changing
            for view in (0, 1):
                batches = list(viewing.batches(torch.arange(8), in_parts(8, size), view=view))
                views.append(torch.cat([batch.inputs for batch in batches]))
    for place in range(4):
        assert torch.equal(views[place], views[place + 4])
    assert len({view.numpy().tobytes() for view in views}) == 4
    # Without an augmentation of ours, the pixels are what the data set's own transform gives under the seed.
    assert views[0].min() >= 0 and views[0].max() <= 1
    assert as_examples(Photographs(photographs(step=0), turned)).digest == examples.digest


def test_small_images_of_one_size_are_held_and_of_several_are_refused():
    held = as_examples(Photographs(photographs(20, step=0)[::2]))
    assert held.pixels().shape == (4, 3, 20, 20)
    with pytest.raises(DataError, match="have 20 x 20 pixels .* and 23 x 21: resize them to one size"):
        as_examples(Photographs(photographs(20)))


def test_an_odd_size_that_nobody_looked_at_is_found():
    images = [scene(112, 112, number) for number in range(2)] * 20
    images[21] = scene(115, 112)
    examples = as_examples(Photographs(images))
    assert isinstance(examples.inputs, ImageItems) and examples.shape == (3, 224, 224)
    (seen,) = examples.inputs.fetch(torch.tensor([21]), torch.tensor([21]))
    assert seen.shape == (1, 3, 224, 224)


def test_an_item_that_is_no_image_is_named():
    images = photographs()
    images[5] = np.zeros((3, 112, 112), np.uint8)
    source = as_examples(Photographs(images, lambda image: image))  # item 5 is among those that are looked at
    with pytest.raises(DataError, match="item 5 of the Photographs is not an image"):
        source.inputs.fetch(torch.tensor([5]), torch.tensor([5]))


def test_labels_of_a_collated_mapping_are_no_label_of_an_item():
    def collate(items):
        pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in items])
        return {"pixel_values": pixels, "labels": torch.tensor([label for _, label in items])}

    images = [Image.new("RGB", (6, 5), (number, 0, 0)) for number in range(9)]
    examples = as_examples(DataLoader(Photographs(images), batch_size=4, collate_fn=collate))
    assert examples.labels.tolist() == [0, 1] * 4 + [0]
    seen = examples.as_seen(torch.tensor([7, 2, 3]))
    assert torch.allclose(seen[:, 0, 0, 0] * 255, torch.tensor([7.0, 2.0, 3.0]))


def test_strings_beside_an_image_are_left_out_with_a_word():
    rows = [{"image": Image.new("L", (4, 4)), "label": number, "caption": "a cat", "image_id": number}
            for number in range(2)]  # fmt: skip
    with pytest.warns(LimbeckWarning, match="strings beside their inputs, which are left out: caption$"):
        assert as_examples(rows).labels.tolist() == [0, 1]
    rows[0]["weight"] = rows[1]["weight"] = 0.5
    with pytest.raises(DataError, match="has the keys image, label, caption, image_id, weight"):
        as_examples(rows)


def test_two_pairs_are_two_items_where_they_cannot_be_inputs_and_labels():
    x = torch.arange(6.0).view(2, 3)
    two = as_examples([(x[0], 0), (x[1], 1)])
    assert torch.equal(two.inputs, x) and two.labels.tolist() == [0, 1]
    same = as_examples([(x[0], x[1]), (0, 1)])
    assert torch.equal(same.inputs, x) and same.labels.tolist() == [0, 1]
