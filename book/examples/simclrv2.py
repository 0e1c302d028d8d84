import torch
from simclrv2 import distillation_loss, nt_xent_loss


def view(images):  # put your own augmentation here
    return images + 0.1 * torch.randn_like(images)


images = torch.rand(128, 3, 8, 8)
encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 64))

z0, z1 = encoder(view(images)), encoder(view(images))
print(f"{nt_xent_loss(z0, z1, temperature=0.5):.2f}")
print(f"{distillation_loss(student_logits=z0, teacher_logits=z1, temperature=1.0):.2f}")
