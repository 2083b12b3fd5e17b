"""Train the demo model: ``python -m nsdldm.demo.training --help``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from nsdldm.demo.training.adapter import train_adapter
from nsdldm.demo.training.assemble import assemble_model
from nsdldm.demo.training.depth import train_depth
from nsdldm.demo.training.evaluation import evaluate_model
from nsdldm.demo.training.recipe import Recipe
from nsdldm.demo.training.stages import STAGES, Workshop
from nsdldm.support.devices import DEVICES, choose_device
from nsdldm.support.logs import logged

# Stages that add to the finished model.
ADDITIONS = {"adapter": train_adapter, "depth": train_depth}
LATER = ("assemble", *ADDITIONS, "evaluate")


def main() -> None:
    """Run the stages requested; each first runs the stages that it needs, unless they are done."""
    parser = argparse.ArgumentParser(prog="python -m nsdldm.demo.training", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="scenes and checkpoints, kept")
    parser.add_argument("--output", type=Path, required=True, help="the finished model")
    parser.add_argument("--stage", choices=("all", *STAGES, *LATER), default="all")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    arguments = parser.parse_args()
    wanted = (*STAGES, *LATER) if arguments.stage == "all" else (arguments.stage,)
    device = choose_device(arguments.device)
    shop = Workshop(Recipe(), arguments.folder, device, threads=os.cpu_count())
    with logged(arguments.folder / "training.log"):
        for stage in wanted:
            if stage in STAGES:
                STAGES[stage](shop)
            elif stage == "assemble":
                assemble_model(shop, arguments.output)
            elif stage in ADDITIONS:
                ADDITIONS[stage](shop, arguments.output)
            else:
                scenes = shop.scenes("test")
                depths = shop.depths("test", range(len(scenes.pictures)))
                evaluate_model(arguments.output, scenes, depths, device)


if __name__ == "__main__":
    main()
