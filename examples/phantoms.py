"""Draw slices of synthetic heads with lesions, as labelled photos. No scan of a person is in them.

python examples/phantoms.py phantoms

A head is the phantom of Shepp and Logan, "The Fourier Reconstruction of a Head Section" (IEEE
Transactions on Nuclear Science 21, 1974): ellipses whose values add up. Here they are ellipsoids,
cut at several heights, and each patient has others. Most patients have lesions, which are bright in
the second of three sequences (the green channel), as oedema is in FLAIR. The noise is that of MRI
(Gudbjartsson and Patz, "The Rician Distribution of Noisy MRI Data", Magnetic Resonance in Medicine
34, 1995).

Phantoms are far easier than scans: they are there to try the commands, not to judge a network.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128
"""Height and width of a slice in pixels."""

SLICES = 10
"""Slices of a patient, from below to above."""

PATIENTS_PER_HELD_OUT = 4
"""One patient of so many is in val, the others are in train."""

CLASSES = (("No tumour", 40, 40, 40), ("Tumour", 230, 60, 60))

HEAD = np.array(
    [
        # value, half axes, centre, angle in degrees; the third axis and centre are not the paper's
        (1.00, 0.6900, 0.920, 0.92, 0.00, 0.0000, 0.0, 0),
        (-0.80, 0.6624, 0.874, 0.88, 0.00, -0.0184, 0.0, 0),
        (-0.20, 0.1100, 0.310, 0.30, 0.22, 0.0000, 0.0, -18),
        (-0.20, 0.1600, 0.410, 0.30, -0.22, 0.0000, 0.0, 18),
        (0.10, 0.2100, 0.250, 0.35, 0.00, 0.3500, 0.1, 0),
        (0.10, 0.0460, 0.046, 0.20, 0.00, 0.1000, 0.0, 0),
        (0.10, 0.0460, 0.046, 0.20, 0.00, -0.1000, 0.0, 0),
        (0.10, 0.0460, 0.023, 0.20, -0.08, -0.6050, 0.0, 0),
        (0.10, 0.0230, 0.023, 0.20, 0.00, -0.6060, 0.0, 0),
        (0.10, 0.0230, 0.046, 0.20, 0.06, -0.6050, 0.0, 0),
    ]
)
"""The ellipsoids of a head, with the higher contrast of Toft, "The Radon Transform" (1996)."""

SEQUENCES = (0.75, 0.9, 0.8)
"""Brightness of the head in each sequence."""

LESION = (0.05, 0.30, 0.10)
"""What a lesion adds in each sequence."""


def draw_patient(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Slices and labels of a patient: uint8 (slices, h, w, 3), and (slices, h, w) of 0 and 1."""
    head = HEAD.copy()
    head[2:, 0] *= random.uniform(0.7, 1.3, len(head) - 2)
    head[2:, 1:4] *= random.uniform(0.85, 1.15, (len(head) - 2, 3))
    head[2:, 4:7] += random.normal(0, 0.02, (len(head) - 2, 3))
    size = random.uniform(0.8, 1.0)
    tilt = random.normal(0, 6)
    y, x = np.mgrid[1 : -1 : SIZE * 1j, -1 : 1 : SIZE * 1j] / size
    lesions = draw_lesions(random, number=random.integers(0, 4))
    brightness = np.array(SEQUENCES) * random.uniform(0.85, 1.15, 3)
    slope = 1 + random.uniform(-0.15, 0.15) * x + random.uniform(-0.15, 0.15) * y
    slices, labels = [], []
    for z in np.linspace(-0.7, 0.8, SLICES):
        tissue = sum(value * inside(rest, x, y, z, tilt) for value, *rest in head)
        lesion = np.any([inside(each, x, y, z, tilt) for each in lesions], axis=0)
        lesion = lesion & inside(head[1, 1:], x, y, z, tilt)
        values = tissue[..., None] * brightness + lesion[..., None] * np.array(LESION)
        values = np.hypot(
            values * slope[..., None] + random.normal(0, 0.03, values.shape),
            random.normal(0, 0.03, values.shape),
        )
        slices.append(np.clip(255 * values, 0, 255).astype(np.uint8))
        labels.append(lesion.astype(np.uint8))
    return np.stack(slices), np.stack(labels)


def draw_lesions(random: np.random.Generator, number: int) -> list[np.ndarray]:
    """Ellipsoids within the brain, without values."""
    axes = random.uniform(0.08, 0.25, (number, 1)) * random.uniform(0.7, 1.4, (number, 3))
    angle, radius = random.uniform(0, 2 * np.pi, number), random.uniform(0.15, 0.5, number)
    centres = [
        radius * np.cos(angle),
        1.2 * radius * np.sin(angle),
        random.uniform(-0.5, 0.6, number),
    ]
    return list(np.column_stack([axes, *centres, random.uniform(0, 180, number)]))


def inside(ellipsoid, x: np.ndarray, y: np.ndarray, z: float, tilt: float) -> np.ndarray:
    """Which points of a slice are in an ellipsoid, once the head is turned by `tilt` degrees."""
    a, b, c, x0, y0, z0, angle = ellipsoid
    turn, own = np.radians(tilt), np.radians(angle)
    x, y = x * np.cos(turn) + y * np.sin(turn) - x0, y * np.cos(turn) - x * np.sin(turn) - y0
    along, across = x * np.cos(own) + y * np.sin(own), y * np.cos(own) - x * np.sin(own)
    return (along / a) ** 2 + (across / b) ** 2 + ((z - z0) / c) ** 2 <= 1


def main(target: str, patients: int = 16, seed: int = 0) -> None:
    for patient in range(int(patients)):
        split = "val" if (patient + 1) % PATIENTS_PER_HELD_OUT == 0 else "train"
        folders = Path(target, split), Path(target, f"{split}annot")
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        slices, labels = draw_patient(np.random.default_rng((int(seed), patient)))
        for index, (pixels, label) in enumerate(zip(slices, labels, strict=True)):
            name = f"patient{patient:02}_slice{index:02}"
            Image.fromarray(pixels).save(folders[0] / f"{name}.jpg", quality=92)
            Image.fromarray(label).save(folders[1] / f"{name}.png")
    with open(Path(target, "classes.csv"), "w", newline="") as file:
        csv.writer(file).writerows([("name", "red", "green", "blue"), *CLASSES])


if __name__ == "__main__":
    main(*sys.argv[1:])
