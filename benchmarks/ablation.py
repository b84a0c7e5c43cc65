"""What each answer to the loss of spatial detail brings: seven trainings, equal in all else.

FCN-32s, FCN-16s and FCN-8s add class scores of ever earlier poolings. SegNet puts values back by
their pooling indices, U-Net concatenates the encoder's feature maps; each is also trained without.
The border mIoU is the mIoU within 3 pixels of a class border.

    python benchmarks/ablation.py CAMVID OUTPUT

trains into OUTPUT, one network after another, goes on where it was stopped, and prints a table.
"""

import subprocess
import sys
from pathlib import Path

from models.packages import load_package

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
            command = ["-m", "pipeline", "train", network, "--data", data, "--output", str(folder)]
            subprocess.run([sys.executable, *command, "--resume", *SETTINGS.split()], check=True)
    print(f"\n{SETTINGS}\n\n| network | detail | mIoU | border mIoU |\n|---|---|---|---|")
    for network, detail in NETWORKS.items():
        metrics = load_package(Path(output, network)).metrics
        print(f"| {network} | {detail} | {metrics['miou']:.3f} | {metrics['border_miou']:.3f} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
