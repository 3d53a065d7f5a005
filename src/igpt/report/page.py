"""The report: one page that tells what runs did, for someone who was not there.

Headline figures and what they say, curves, probes, pictures and where all of it came from, out of
the run folders alone. The page is a single file without scripts that loads nothing, so it can be
mailed, printed or shown ten years later, by day, by night and on a phone; drawn twice from the same
folders it is the same byte for byte.

    write_report([Path("runs/a"), Path("runs/a-finetuned")], Path("report.html"))

What a run has not measured yet has no section; the page's end names the commands that would, of
what a quickstart measures. `igpt.report.read` reads and checks, `igpt.report.figures` makes tables,
`igpt.report.plots` draws, `igpt.report.verdicts` judges, and `page.jinja` and the `sections` have
the words and the layout. Whatever a run says comes into the page escaped.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from igpt.errors import ConfigError
from igpt.files import written_aside
from igpt.outputs import require_ending, require_free
from igpt.paths import AnyPath, as_paths
from igpt.report import figures, verdicts
from igpt.report.differences import difference_tables
from igpt.report.plots import draw_plots, swatches
from igpt.report.read import ReportedRun, read_runs
from igpt.report.templates import template

_SECTION = re.compile(r'<section id="(\w+)">\n<h2>(.*?)</h2>')
"""How a section begins; nothing that a run says looks like it, as that is escaped."""

_MARK = '<meta name="generator" content="igpt report">'
"""Tells a report from other pages."""


def write_report(
    runs: AnyPath | Sequence[AnyPath], out: AnyPath, *, overwrite: bool = False
) -> None:
    """Write one page about runs, pretraining and fine-tuning in any mixture.

    Args:
        runs: Folders of the runs; one that is given twice is on the page once.
        out: The HTML file, .html; an earlier report there is replaced.
        overwrite: Replace any other file too.

    Raises:
        CheckpointError: A folder holds no run, or one of its files is damaged.
        ConfigError: There are no runs, or `out` is no `.html` or may not be written.
        DataError: A palette or picture is damaged, or `out` cannot be written.
    """
    out = Path(out)
    runs = as_paths(runs)
    if not runs:
        raise ConfigError("a report needs at least one run; give the folder that a training wrote")
    require_free(out, overwrite=overwrite, page=_MARK)
    require_ending(out, ".html", "a report is")
    reported = read_runs(runs)
    groups = {
        "pretraining": [run for run in reported if run.pretrains],
        "tuning": [run for run in reported if not run.pretrains],
        "probed": [run for run in reported if run.pretrains and run.probe],
        "tuned": [run for run in reported if run.finetune],
        "evaluated": [run for run in reported if run.evaluation],
    }
    body = template("body.jinja", escape=True).render(
        runs=reported,
        several=len(reported) > 1,
        plots=draw_plots(reported),
        runs_by_palette=_by_palette(reported),
        best_tuned=_best_tuned(reported),
        differences=difference_tables(reported),
        figures=figures,
        verdicts=verdicts,
        swatches=swatches,
        **groups,
    )
    page = template("page.jinja", escape=True).render(
        runs=reported,
        dates=sorted({run.date for run in reported if run.date}),
        contents=[(name, Markup(title)) for name, title in _SECTION.findall(body)],
        body=Markup(body),
        mark=_MARK,
    )
    with written_aside(out) as aside:
        aside.write_text(page, encoding="utf-8")


def _by_palette(runs: list[ReportedRun]) -> list[list[ReportedRun]]:
    """Return the runs that have a palette, those of one palette together."""
    groups: dict[str, list[ReportedRun]] = {}
    for run in runs:
        if run.palette is not None:
            groups.setdefault(run.palette.fingerprint, []).append(run)
    return list(groups.values())


def _best_tuned(runs: list[ReportedRun]) -> ReportedRun | None:
    """Return the fine-tuning run whose test accuracy is the headline: the best on validation.

    A run that learned from the validation images too has no such accuracy, and goes before all
    others: it is the final training, with settings that the others were compared to find.
    """

    def rank(run: ReportedRun) -> tuple[bool, float]:
        validation = run.finetune.validation_accuracy if run.finetune else None
        return validation is None, validation or 0.0

    tested = [run for run in runs if run.finetune and run.finetune.test_accuracy is not None]
    return max(tested, key=rank, default=None)
