"""``nnunet_active demo``: a complete run without any data, or on the user's data."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from nnunet_active.cli.arguments import add_device, device_of, seed, whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--raw`` and ``--source`` run the demo on the user's own data set."""
    parser.add_argument("--raw", type=Path, help="raw data set (nnUNet_raw/DatasetXXX_Name) in place of the phantom")
    parser.add_argument("--source", type=Path, help="trained model folder or exported zip that goes with --raw")
    parser.add_argument("-c", dest="configuration", help="configuration of the source model, where it has several")
    add_device(parser)
    parser.add_argument("--folder", type=Path, help="where to work and keep everything (default: a temporary folder)")
    parser.add_argument("--budget", type=whole("--budget"), default=3, help="labels per adaptation (default: 3)")
    parser.add_argument("--epochs", type=whole("--epochs"), help="epochs per adaptation")
    parser.add_argument("--iterations", type=whole("--iterations"), help="iterations per epoch")
    parser.add_argument(
        "--random-draws", type=whole("--random-draws", 0, 1000), default=1, help="how many random triples (default: 1)"
    )
    parser.add_argument("--seed", type=seed(), default=0, help="seed of everything random (default: 0)")
    parser.add_argument(
        "--threads",
        type=whole("--threads", most=1024),
        default=1,
        help="threads of torch (default: 1; on a busy machine more are slower)",
    )


def run(args: argparse.Namespace) -> int:
    """Make or take the data, compare, print the table."""
    from nnunet_active.util.errors import ActiveError

    if (args.raw is None) != (args.source is None):
        raise ActiveError("--raw and --source belong together: a raw data set and the trained model to adapt to it.")
    os.environ.setdefault("nnUNet_def_n_proc", "2")  # read when nnU-Net is imported
    import torch

    from nnunet_active.demo import demo_run as runner
    from nnunet_active.demo.ways import MMACTS, Plan

    device = device_of(args.device, print).type
    torch.set_num_threads(max(1, args.threads))
    start = time.perf_counter()
    work = args.folder or Path(tempfile.mkdtemp(prefix="nnunet_active_demo_"))
    runner.use_folder(work)
    given = {key: getattr(args, key) for key in ("epochs", "iterations") if getattr(args, key) is not None}
    plan = Plan(budget=args.budget, seed=args.seed, random_draws=args.random_draws, **given)
    if args.raw is None:
        test: list[str] = []
        raw, model, images, labels = _phantom(args.seed, device)
    else:
        raw, model = work / "nnUNet_raw" / args.raw.resolve().name, args.source
        if not args.raw.is_dir():
            raise ActiveError(f"--raw {args.raw} was not found; name a raw data set.")
        if raw.is_symlink() and raw.resolve() != args.raw.resolve():  # an earlier attempt's
            raw.unlink()
        if not raw.exists():
            raw.symlink_to(args.raw.resolve(), target_is_directory=True)
        test, images, labels = runner.hold_out(raw, work, share=1 / 3, seed=args.seed)
    print("\nThe target: plans from the source model, preprocessing")
    dataset, configuration = runner.prepare_demo_target(raw, model, args.configuration)
    target = runner.PreparedTarget(dataset, configuration, images, labels, work, device)
    print(f"\nAdapting {configuration} on {dataset}: {plan.epochs} epochs of {plan.iterations} iterations each")
    rows = runner.compare_ways(target, plan, test)
    runner.save_rows(rows, work / "demo.json")
    print("\nOn the test cases:\n")
    print(runner.table_of(rows).to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    for row in rows:
        if row.name == MMACTS:
            print(
                "\nmmActS asked for "
                + ", ".join(f"{case} (open {name} first)" for case, name in row.open_first.items())
            )
    print(
        f"\nOne run of each, so the differences are an example and no evidence. {time.perf_counter() - start:.0f} s in all."
    )
    print(f"Everything is in {work}")
    return 0


def _phantom(seed: int, device: str) -> tuple[Path, Path, Path, Path]:
    from nnunet_active.demo.phantom import write_phantom_pair
    from nnunet_active.demo.source_training import train_source
    from nnunet_active.nnunet.nnunet_paths import raw_root
    from nnunet_active.util.errors import ActiveError

    print("A phantom pair: a source domain, and a target from other scanners")
    try:
        pair = write_phantom_pair(raw_root(), seed=seed)
    except FileExistsError as error:
        raise ActiveError(f"{error} Or name a new folder with --folder.") from None
    print(f"  {pair.source_name}: {len(pair.source_truth)} cases; {pair.target_name}: {len(pair.target_truth)} cases")
    print("\nThe source model (what you would bring along)")
    trained = train_source(pair.source_name, seed=seed, device=device)
    return pair.target_folder, trained.folder, pair.target_folder / "imagesTs", pair.target_folder / "labelsTs"
