"""A timm network that was fine-tuned on a folder of JPEGs, distilled into a small one from random crops of them."""

import limbeck
from limbeck.data import cut_validation

data = cut_validation(limbeck.open_data("photos", image_size=224), 0.1)
views = limbeck.Augmentation(augment="standard")
student = "timm:mobilenetv3_small_050"
run = limbeck.distill("timm:resnet-finetuned", student, data, augmentation=views, epochs=30, out="runs/photos")
print(run.verdict)
