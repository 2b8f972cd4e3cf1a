"""``nnunet_active strategies``: the query strategies, what they need, what they cost, and where they come from."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for a script to read")


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    import json
    import textwrap

    rows = describe_strategies()
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['summary']}")
        uses = f"; uses {', '.join(row['uses'])} where available" if row["uses"] else ""
        options = ", ".join(f"{option}={default!r}" for option, default in row["options"].items())
        details = [
            f"needs: {', '.join(row['needs']) or 'nothing'}{uses}",
            f"cost: {row['cost']}   paper: {row['paper']}",
            *([f"options: {options}"] if options else []),
        ]
        for line in details:
            print(
                textwrap.fill(
                    line,
                    118,
                    initial_indent=" " * (width + 2),
                    subsequent_indent=" " * (width + 4),
                    break_on_hyphens=False,
                )
            )
    print("\nn: candidates, m: labelled cases, b: picks, d: embedding width, C: classes, k: reference points.")
    print("Your own: path/to/file.py:ClassName works wherever a name does; see docs/how-to-add-a-strategy.md.")
    return 0


def describe_strategies() -> list[dict]:
    """One dictionary per strategy: name, summary, needs, uses, cost, paper, options with their defaults, module."""
    import inspect

    from nnunet_active.strategies import available_strategies, get_strategy

    rows = []
    for name, cls in available_strategies().items():
        strategy = get_strategy(name)
        parameters = inspect.signature(cls).parameters.values()
        rows.append(
            {
                "name": name,
                "summary": (inspect.getdoc(cls) or "").partition("\n")[0],
                "needs": sorted(strategy.needs),
                "uses": sorted(strategy.uses),
                "cost": cls.cost,
                "paper": cls.paper,
                "options": {p.name: p.default for p in parameters if p.default is not p.empty},
                "module": cls.__module__,
            }
        )
    return rows
