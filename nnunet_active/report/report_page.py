"""The report page: everything known about a campaign in one self-contained HTML file."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nnunet_active import __version__
from nnunet_active.annotation.label_colours import colour_of_name
from nnunet_active.campaign.campaign import Campaign
from nnunet_active.data.cases_set_aside import cases_set_aside
from nnunet_active.data.file_endings import carries_geometry
from nnunet_active.data.raw_dataset import RawDataset
from nnunet_active.report.agreement import agreement_of_labels
from nnunet_active.report.case_card import case_card
from nnunet_active.report.details import comparisons, plans_table, settings_table, versions_table
from nnunet_active.report.embedding_map import embedding_map
from nnunet_active.report.first_answer import first_answer
from nnunet_active.report.ranking import as_text, ranking
from nnunet_active.report.slice_table import slice_table
from nnunet_active.report.slices import TOP_OF_SCALE, scale_colours
from nnunet_active.report.standing import standing
from nnunet_active.rounds.labels_at_hand import handoff_content
from nnunet_active.rounds.round_table import Query
from nnunet_active.rounds.score_words import meaning
from nnunet_active.util.atomic import write_text
from nnunet_active.util.errors import ActiveError
from nnunet_active.workspace import Workspace

MOST_CASES = 30
"""Most cases with pictures; the newest rounds come first."""


def write_report(workspace: Workspace, results: Path, file: Path, pictures: bool = True) -> Path:
    """Write the report of a campaign. Writes nothing else and takes no lock.

    Args:
        workspace: the data set, with its campaign.
        results: ``nnUNet_results``.
        file: the file to write; replaced in one step.
        pictures: False leaves the slices out; the report still names the cases.

    Returns:
        ``file``.
    """
    write_text(file, render(collect(workspace, results, pictures)))
    return file


def collect(workspace: Workspace, results: Path, pictures: bool = True) -> dict[str, Any]:
    """Everything that the template shows, as plain data; see :func:`write_report`."""
    campaign, raw, plans = workspace.campaign, workspace.raw, workspace.plans
    rounds: list[dict[str, Any]] = []
    drawn = 0
    metric = carries_geometry(raw.file_ending)
    problems = []
    for one in reversed(campaign.rounds):
        try:
            query = Query.of_round(one)
            content = {
                **ranking(campaign, one, query, metric),
                "slices": slice_table(campaign, query),
                "cards": [],
            }
        except ActiveError as error:
            problems.append(f"Round {one.number} cannot be shown: {error}")
            continue
        handed = handoff_content(campaign.handoff_folder(one.number))
        for case in one.requested:
            draw = pictures and drawn < MOST_CASES
            drawn += draw
            content["cards"].append(_card(campaign, query, case, raw, plans, draw, handed))
        rounds.append(content)
    colours = colour_of_name(raw.dataset_json)
    answer = first_answer(campaign, results)
    classes = {name for one in rounds for card in one["cards"] for name in card["legend"]}
    return {
        "dataset": campaign.dataset_folder.name,
        "fold": campaign.fold,
        "made": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
        "pictures": any(card["channels"] for one in rounds for card in one["cards"]),
        "uncertainty": any(view["uncertainty"] for one in rounds for card in one["cards"] for view in card["views"]),
        "asked_slices": bool(rounds and rounds[0]["slices"]["rows"]),
        "without_pictures": len(campaign.requested()) - drawn if pictures else 0,
        "answer": answer,
        "standing": standing(workspace, bool(answer["trained"])),
        "set_aside": cases_set_aside(workspace.store, raw),
        "rounds": rounds,
        "problems": problems,
        "map": embedding_map(campaign),
        "agreement": agreement_of_labels(campaign, colours, metric),
        "settings": settings_table(campaign),
        "versions": versions_table(campaign),
        "plans": plans_table(plans, campaign.configuration),
        "comparisons": comparisons(campaign, results),
        "folder": str(campaign.folder),
        "scale": scale_colours(),
        "top_of_scale": TOP_OF_SCALE,
        "lines": {name: colour for name, colour in colours.items() if name in classes},
    }


GENERATOR = '<meta name="generator" content="nnunet_active report">'
"""In every report, to tell it from other files."""


def render(content: dict[str, Any]) -> str:
    """The HTML; the template engine escapes everything that comes from files."""
    loader = PackageLoader("nnunet_active.report")
    environment = Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    environment.filters.update({"number": as_text, "markup": Markup})
    environment.globals.update({"meaning": meaning})

    def inline(name: str) -> Markup:
        return Markup(loader.get_source(environment, name)[0])

    return environment.get_template("report.html.j2").render(**content, inline=inline)


def _card(
    campaign: Campaign, query: Query, case: str, raw: RawDataset, plans: dict, draw: bool, handed: dict[str, Any]
) -> dict[str, Any]:
    try:
        return case_card(campaign, query, case, raw, plans, draw, handed)
    except (ActiveError, OSError, ValueError, KeyError) as error:  # one case must not prevent the report of the others
        without = case_card(campaign, query, case, raw, plans, False, handed)
        return {**without, "notes": [f"Pictures are missing: {type(error).__name__}: {error}"]}
