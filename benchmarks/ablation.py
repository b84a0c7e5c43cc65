"""Measure what each network's way of recovering spatial detail contributes: seven trainings.

FCN-32s, FCN-16s and FCN-8s add class scores of ever earlier poolings. SegNet unpools by pooling
indices, and U-Net concatenates the encoder's feature maps; each of the two is also trained without.
All other settings are equal. The border mIoU is the mIoU within 3 pixels of a class border.

    python benchmarks/ablation.py CAMVID OUTPUT

trains the networks into OUTPUT, one after another, and prints a table. Finished trainings are kept,
and an interrupted one is resumed.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

from models.networks import ARCHITECTURES, segnet, unet
from models.packages import load_package
from pipeline import cli

TRAIN = "train"
"""First argument of a process that runs `citymask train`, with the plain networks added."""

segnet_plain = partial(segnet.build, index_unpooling=False)
unet_plain = partial(unet.build, skips=False)
ARCHITECTURES |= {name: f"{__name__}:{name}" for name in ("segnet_plain", "unet_plain")}

NETWORKS = {
    "fcn32s": "no score of an earlier pooling",
    "fcn16s": "and scores of pool4",
    "fcn8s": "and scores of pool3",
    "segnet_plain": "plain upsampling",
    "segnet": "unpooling by indices",
    "unet_plain": "no skip connections",
    "unet": "skip connections",
}
SETTINGS = (
    "--width 0.25 --input-size 320x256 --epochs 20 --learning-rate 2e-3 --validate-every 5 "
    "--precision mixed_bfloat16 --seed 0"
)


def main(data: str, output: str) -> None:
    for network in NETWORKS:
        folder = Path(output, network)
        if not (folder / "model.json").exists():
            command = [__file__, TRAIN, network, "--data", data, "--output", str(folder)]
            subprocess.run([sys.executable, *command, "--resume", *SETTINGS.split()], check=True)
    print(f"\n{SETTINGS}\n\n| network | detail | mIoU | border mIoU |\n|---|---|---|---|")
    for network, detail in NETWORKS.items():
        metrics = load_package(Path(output, network)).metrics
        print(f"| {network} | {detail} | {metrics['miou']:.3f} | {metrics['border_miou']:.3f} |")


if __name__ == "__main__":
    if sys.argv[1] == TRAIN:
        cli.main()
    main(*sys.argv[1:])
