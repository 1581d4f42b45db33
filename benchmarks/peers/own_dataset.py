"""The job of examples/own_dataset.py in PyTorch: no baseline, no verdict, no resume."""

import torch
from own import Photographs, student, teacher
from torch.utils.data import DataLoader

T, WEIGHT, EPOCHS = 4.0, 0.1, 20
loader = DataLoader(Photographs("train", augment=True), batch_size=256, shuffle=True, num_workers=4)
validation = DataLoader(Photographs("val"), batch_size=256, num_workers=4)
teacher.eval()
optimizer = torch.optim.AdamW(student.parameters(), 1e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(loader))
for epoch in range(EPOCHS):
    student.train()
    for inputs, labels in loader:
        with torch.no_grad():
            target = (teacher(inputs) / T).log_softmax(-1)
        logits = student(inputs)
        soft = torch.nn.functional.kl_div((logits / T).log_softmax(-1), target, reduction="batchmean", log_target=True)
        loss = WEIGHT * torch.nn.functional.cross_entropy(logits, labels) + (1 - WEIGHT) * T * T * soft
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    student.eval()
    with torch.no_grad():
        wrong = sum(int((student(inputs).argmax(1) != labels).sum()) for inputs, labels in validation)
    print(epoch + 1, "validation errors", wrong)
torch.save(student.state_dict(), "student.pt")
