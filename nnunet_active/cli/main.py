"""``nnunet_active``: parse the arguments, call one subcommand, and turn a user's mistake into one clear line."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from nnunet_active import __version__
from nnunet_active.util.errors import ActiveError
from nnunet_active.util.launched import number_of_process, processes_of_command
from nnunet_active.util.sentences import one_sentence, show_everything

COMMANDS = {
    "trainers": "Print the folder that nnUNet_extTrainer has to name, so that nnUNetv2_train finds our trainers",
    "import-dicom": "Bring DICOM series into nnUNet_raw, one series a channel, under pseudonyms",
    "plan": "Make the target's plans from a trained source model (folder or exported zip) alone",
    "preprocess": "Preprocess labelled and unlabelled cases, only what is missing or older than its files",
    "init": "Start a campaign: strategy, budget, schedule and oracle of a fold",
    "select": "Choose the next cases to label, and hand them over to the annotator",
    "annotate": "Write the hand-off folder of the requested cases: images, editable predictions, uncertainty maps, worklist",
    "ingest": "Take finished labels back: check them, preprocess them, and add their cases to the training set",
    "next": "Say in one screen where a campaign stands, and print the exact command that comes next",
    "status": "Show the rounds of a campaign, the cases, and why each was chosen",
    "forecast": "Say how good the predictions of the unlabelled cases will be, which will fail, and whether labels still pay",
    "explain": "Say in words and numbers why a case was chosen, or was not",
    "serve": "Serve the waiting cases to the MONAI Label module of 3D Slicer, and take its labels back",
    "pseudo": "Say which predictions for unlabelled cases are reliable, and make a data set of them where that is wanted",
    "report": "Write one HTML file: where the campaign stands, what was asked for and why, pictures, agreement, settings",
    "strategies": "List the query strategies with what they need, their cost and their paper",
    "predict": "Predict as nnUNetv2_predict does, with a guard for scans in which the adapted model loses a class",
    "export": "Write a trained model as a stock nnU-Net model folder or zip, usable without this package",
    "export-dicom": "Write predictions as DICOM segmentations of the series that import-dicom imported",
    "summarize-source": "For the owner of a source model: sum up its scans as a few centroids and covariances, without any image",
    "doctor": "Check versions, environment variables and trainer discovery, and with -d a data set, its plans, source and campaign",
    "demo": "Adapt a tiny source network to a phantom target (or yours) and compare: source, whole scans, slices, all labels",
    "benchmark": "Compare query strategies by full retrospective trainings on a labelled target",
}
"""Every subcommand with its purpose. The texts are here, so that the list is printed without importing any of their modules."""


def build_parser(given: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of the command line; each subcommand's module has the command's name.

    Args:
        given: the arguments to parse, so that only the module of their command is imported; None imports every module.
    """
    parser = argparse.ArgumentParser(prog="nnunet_active")
    parser.description = "Active, source-free domain adaptation for the stock nnU-Net."
    parser.add_argument("--version", action="version", version=f"nnunet_active {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    named = COMMANDS.keys() if given is None else {next((one for one in given if not one.startswith("-")), "")}
    for name, text in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text)
        if name in named:
            module = importlib.import_module(f"nnunet_active.cli.{name.replace('-', '_')}")
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code (0: done; 1: incomplete, or cases were set aside; 2: wrong input)."""
    show_everything()
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        args = build_parser(given).parse_args(given)
        if args.command != "select" and processes_of_command() > 1:
            raise ActiveError(
                f"{args.command} works with one process; of all commands only select runs under torchrun."
            )
        return args.run(args)
    except BrokenPipeError:  # nnunet_active strategies | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the interpreter's last flush
        return 0
    except KeyboardInterrupt:
        if number_of_process() == 0:
            then = (
                "the same command goes on from here" if given[0] != "demo" else "start the demo again in a new folder"
            )
            print(f"\nInterrupted; nothing is half-written; {then}.", file=sys.stderr)
        return 130
    except Exception as error:  # the one place that turns every error into a sentence
        sentence, code = one_sentence(error)
        if number_of_process() == 0:  # only one of several processes reports
            print(f"nnunet_active {given[0]}: {sentence}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
