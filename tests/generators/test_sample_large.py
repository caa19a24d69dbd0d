"""A 256x256 diffusers generator at 1,000 images: bounded memory, progress, resumable."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import diffusers
import pytest
import torch
import yaml

from pipeline import manifest

ROOT = Path(__file__).parents[2]
IMAGES, BATCH, PART, KILLED_AFTER = 1000, 8, 32, 6
# What a part of encoded pictures and the allocator's habits may add, far below 1,000 pictures
# (786 MB as the float32 that the pipeline gives).
ROOM_MB = 150
STAGE = """
import resource, sys
from generators import sample
sys.argv[1:] = ["big"]
sample.main()
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.fixture
def big(tmp_path, make_params):
    """Start the stage on a small random U-Net of 256x256 with a number of images."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DModel(
        sample_size=256, in_channels=3, out_channels=3, layers_per_block=1,
        block_out_channels=(4,) * 5, down_block_types=("DownBlock2D",) * 5,
        up_block_types=("UpBlock2D",) * 5, norm_num_groups=4, add_attention=False,
    )  # fmt: skip
    diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler()).save_pretrained(tmp_path / "pipe")

    def start(folder, images, first_seed=0):
        entry = {
            "adapter": "diffusers", "family": "diffusion", "weights": str(tmp_path / "pipe"),
            "steps": 1, "batch": BATCH, "images": images, "first_seed": first_seed,
        }  # fmt: skip
        values, _ = make_params({"big": entry}, 256, 3, PART)
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "params.yaml").write_text(yaml.safe_dump(values))
        return subprocess.Popen(
            [sys.executable, "-c", STAGE], cwd=tmp_path / folder, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=(tmp_path / folder / "log").open("a"),
        )  # fmt: skip

    return start


def peak(process):
    out, _ = process.communicate()
    assert process.returncode == 0
    return int(re.search(r"peak (\d+)", out)[1])


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_thousand_pictures_take_the_memory_of_a_part_and_survive_a_kill(big, tmp_path):
    # Seeds that the run below comes to after it was killed.
    after = (KILLED_AFTER + 2) * PART
    few = peak(big("few", 2 * PART, after))

    process = big("many", IMAGES)
    parts = tmp_path / "many/data/manifests/big"
    while len(list(parts.glob("part-*.parquet"))) < KILLED_AFTER:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*.parquet")}

    many = peak(big("many", IMAGES))
    print(f"peak memory: {few} MB for {2 * PART} images, {many} MB for {IMAGES}")
    assert many < few + ROOM_MB
    # Finished parts were left alone, and the pictures are those of a run that nothing disturbed.
    assert all((parts / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert len(kept) * PART <= after
    made = manifest.read(parts, columns=["seed", "sha256"]).set_index("seed")["sha256"]
    assert list(made.index) == list(range(IMAGES))
    undisturbed = manifest.read(tmp_path / "few/data/manifests/big", columns=["seed", "sha256"])
    assert len(undisturbed) == 2 * PART
    assert list(made[undisturbed["seed"]]) == list(undisturbed["sha256"])
    # Done, of how many, time gone < time left, rate.
    log = (tmp_path / "many/log").read_text()
    assert re.search(r"\d+/\d+ \[[\d:]+<[\d:]+, .*images", log)
    assert re.search(rf"/{IMAGES - PART * len(kept)} \[", log)
