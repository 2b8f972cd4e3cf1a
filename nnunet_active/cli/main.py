"""``nnunet_active``: parse, call one subcommand, and turn a user's mistake into one clear line."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from nnunet_active import __version__
from nnunet_active.util.sentences import one_sentence, show_everything

COMMANDS = (
    "trainers",
    "plan",
    "preprocess",
    "init",
    "select",
    "annotate",
    "ingest",
    "next",
    "status",
    "explain",
    "pseudo",
    "report",
    "strategies",
    "export",
    "summarize-source",
    "doctor",
    "demo",
    "benchmark",
)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands; each subcommand's module is named like the command."""
    parser = argparse.ArgumentParser(prog="nnunet_active")
    parser.description = "Active, source-free domain adaptation for the stock nnU-Net."
    parser.add_argument("--version", action="version", version=f"nnunet_active {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"nnunet_active.cli.{name.replace('-', '_')}")
        subparser = subparsers.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code (0: done, 1: done but cases were set aside, or not to the end, 2: wrong input)."""
    show_everything()
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        args = build_parser().parse_args(given)
        return args.run(args)
    except BrokenPipeError:  # nnunet_active strategies | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the interpreter's last flush
        return 0
    except KeyboardInterrupt:
        print("\nInterrupted; nothing is half-written, the same command goes on from here.", file=sys.stderr)
        return 130
    except Exception as error:  # the one place that turns whatever happens into a sentence
        sentence, code = one_sentence(error)
        print(f"nnunet_active {given[0]}: {sentence}", file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
