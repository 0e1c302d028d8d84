"""Augmentation of whole batches: weak, strong, and views for contrastive learning."""

from labutils.augment.weak import crop_flip, normalise, pad_crop_flip  # noqa: F401
