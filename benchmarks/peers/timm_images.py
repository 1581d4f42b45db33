"""The job of examples/timm_images.py with timm's loaders and a loop in PyTorch: no baseline, no verdict, no resume."""

import json

import timm
import torch
from safetensors.torch import load_file
from timm.data import ImageDataset, create_transform, resolve_data_config
from torch.utils.data import DataLoader, Subset

T, WEIGHT, EPOCHS, SIZE, STUDENT = 4.0, 0.1, 30, 224, "mobilenetv3_small_050"
described = json.load(open("resnet-finetuned/config.json"))
teacher = timm.create_model(described["architecture"], num_classes=described["num_classes"]).eval()
teacher.load_state_dict(load_file("resnet-finetuned/model.safetensors"))
student = timm.create_model(STUDENT, num_classes=described["num_classes"])
shown = resolve_data_config(model=student)
views = [
    create_transform((3, SIZE, SIZE), is_training=train, mean=shown["mean"], std=shown["std"])
    for train in (True, False)
]
training, plain = (ImageDataset("photos", transform=view) for view in views)
order = torch.randperm(len(plain), generator=torch.Generator().manual_seed(0)).tolist()
cut = len(order) // 10
loader = DataLoader(Subset(training, order[cut:]), batch_size=128, shuffle=True, num_workers=4)
validation = DataLoader(Subset(plain, order[:cut]), batch_size=128, num_workers=4)
theirs = described["pretrained_cfg"]
own_mean, own_std, mean, std = (
    torch.tensor(each).view(3, 1, 1) for each in (shown["mean"], shown["std"], theirs["mean"], theirs["std"])
)
optimizer = torch.optim.AdamW(student.parameters(), 1e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(loader))
for epoch in range(EPOCHS):
    student.train()
    for images, labels in loader:
        with torch.no_grad():
            seen = torch.nn.functional.interpolate(
                (images * own_std + own_mean - mean) / std, theirs["input_size"][1:], mode="bilinear"
            )
            target = (teacher(seen) / T).log_softmax(-1)
        logits = student(images)
        soft = torch.nn.functional.kl_div((logits / T).log_softmax(-1), target, reduction="batchmean", log_target=True)
        loss = WEIGHT * torch.nn.functional.cross_entropy(logits, labels) + (1 - WEIGHT) * T * T * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    student.eval()
    with torch.no_grad():
        wrong = sum(int((student(images).argmax(1) != labels).sum()) for images, labels in validation)
    print(epoch + 1, "validation errors", wrong)
torch.save(student.state_dict(), "student.pt")
