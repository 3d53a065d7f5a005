import dataclasses
import errno
import html
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy.stats import norm
from tests.report.conftest import (
    PROVENANCE,
    RECIPE,
    new_finetuned,
    new_run,
    probes,
    write_picture,
)

from igpt.amounts import spoken
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.few_labels import Accuracies, FewLabelsResult, FewLabelsRow
from igpt.evaluation.outliers import ForeignSet, ImageSet, OutliersResult
from igpt.evaluation.probe import LayerProbes
from igpt.report.page import write_report
from igpt.runs.kept import MadeFrom
from igpt.runs.run import RunFolder

DASH = "\N{EN DASH}"


def page_of(*runs: RunFolder) -> str:
    out = runs[0].path.parent / "report.html"
    write_report([run.path for run in runs], out)
    return out.read_text(encoding="utf-8")


def sections(page: str) -> list[str]:
    return re.findall(r'<section id="(\w+)"', page)


def rows(page: str, section: str) -> list[list[str]]:
    """Return the texts of the cells of each table row in a section."""
    part = page.partition(f'<section id="{section}"')[2].partition("</section>")[0]
    return [
        [
            html.unescape(re.sub(r"<[^>]*>", "", cell)).strip()
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr.*?</tr>", part, re.DOTALL)
    ]


def plain(page: str) -> str:
    """Return the page's words without its markup."""
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def interval(share: float, images: int = 16) -> str:
    """Return Wilson's interval, by its formula, as a table has it."""
    z = norm.ppf(0.975)
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    reach = z / (1 + z**2 / images)
    reach *= (share * (1 - share) / images + z**2 / (4 * images**2)) ** 0.5
    return f"{100 * (middle - reach):.1f}{DASH}{100 * (middle + reach):.1f}%"


def percents(*shares: float | None) -> list[str]:
    return [DASH if share is None else f"{share:.1%}" for share in shares]


@pytest.fixture(scope="session")
def real_page(real, tmp_path_factory) -> str:
    """The page about real runs of which everything was measured."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(real.paths, out)
    return out.read_text(encoding="utf-8")


def test_whatever_was_measured_has_its_section(real_page):
    assert sections(real_page) == [
        "results", "runs", "palette", "loss", "likelihood", "probe", "features", "completions",
        "finetuning", "missing", "provenance",
    ]  # fmt: skip


def test_the_contents_lead_to_every_section(real_page):
    contents = real_page.partition("<nav")[2].partition("</nav>")[0]
    assert re.findall(r'href="#(\w+)"', contents) == sections(real_page)


def test_every_picture_of_an_image_of_the_store_says_which_file_it_is(real, real_page):
    pictures = re.findall(r'<img [^>]*alt="([^"]*)" title="([^"]*)"', real_page)
    assert len(pictures) > 40
    for alt, title in pictures:
        assert re.fullmatch(r"(test|validation) image \d+: (left|top)/\d+\.png", title)
        assert title in alt


def test_completions_stand_under_their_heads(real_page):
    heads = rows(real_page, "completions")[0]
    assert heads == ["given", "drawn 1", "drawn 2", "original", "which"]
    assert ["given", "step 6", "step 12", "original", "which"] in rows(real_page, "completions")


def test_surprise_maps_and_extremes_have_their_numbers(real, real_page):
    part = real_page.partition('<section id="likelihood"')[2].partition("</section>")[0]
    assert len(re.findall(r">\d\.\d\d nats per pixel<br>", part)) == 2
    assert len(re.findall(r"<figcaption>\d\.\d\d</figcaption>", part)) == 2 * 10
    assert "log 16 = 2.77 or more" in part


def test_the_likelihood_of_a_real_run_is_in_the_page(real, real_page):
    result = real.likelihood
    nats, bits = f"{result.nats_per_pixel:.4f}", f"{result.bits_per_pixel:.4f}"
    reach = 1.96 * result.standard_error
    interval = DASH.join(f"{result.nats_per_pixel + sign * reach:.4f}" for sign in (-1, 1))
    row = ["autoregressive", "test", "16", nats, interval, bits, "2.7726"]
    assert row in rows(real_page, "loss")


def test_the_probes_of_a_real_run_are_in_the_page(real, real_page):
    probe, untrained = real.probe, real.untrained
    test, validation = percents(probe.test_accuracy, probe.best.validation_accuracy)
    others = percents(untrained.test_accuracy, probe.raw_pixels.test_accuracy)
    table = rows(real_page, "probe")
    counts = f"{round(16 * probe.test_accuracy)} of 16"
    figures = [test, interval(probe.test_accuracy), counts, str(probe.best_layer), validation]
    assert ["autoregressive", *figures, *others] in table
    for row, fresh in zip(probe.layers, untrained.layers, strict=True):
        shares = percents(row.validation_accuracy, row.test_accuracy)
        shares += [interval(row.test_accuracy), *percents(fresh.test_accuracy)]
        converged = "yes" if row.converged else "no"
        assert [str(row.layer), *shares, f"{row.setting:.0e}", converged] in table


def test_every_class_of_a_real_run_is_in_the_page(real, real_page):
    table = rows(real_page, "probe")
    for number, (name, taken) in enumerate(zip(("left", "top"), real.probe.confusion, strict=True)):
        right, images = taken[number], sum(taken)
        shares = [*percents(right / images), interval(right / images, images)]
        assert [f"{number} {name}", str(images), *shares, *map(str, taken)] in table


def test_other_probes_of_a_real_run_are_in_the_page(real, real_page):
    names = ("ridge regression", "nearest neighbors")
    for name, probe in zip(names, real.others, strict=True):
        shares = percents(probe.test_accuracy, probe.best.validation_accuracy)
        shares.insert(1, interval(probe.test_accuracy))
        layer, setting = str(probe.best_layer), f"{probe.best.setting:.3g}"
        ranks = DASH if probe.rank_correlation is None else f"{probe.rank_correlation:.2f}"
        row = ["autoregressive", name, *shares, layer, setting, ranks]
        assert row in rows(real_page, "features")


def test_few_labels_of_a_real_run_are_in_the_page(real, real_page):
    layer = str(real.few_labels.layer)
    assert [row.labels_per_class for row in real.few_labels.rows] == [2, 4]
    for row in real.few_labels.rows:
        shares = percents(row.mean, row.standard_deviation, row.fine_tuned.mean)
        line = ["autoregressive", str(row.labels_per_class), *shares, "2", "16", layer]
        assert line in rows(real_page, "features")


def test_masks_of_a_real_run_are_in_the_page(real, real_page):
    masks = real.masks
    shares = percents(masks.modal, masks.single_mean, masks.unmasked)
    shares.insert(1, interval(masks.modal))
    row = ["bert", "3", *shares, str(masks.layer), f"{masks.penalty:.0e}"]
    assert row in rows(real_page, "features")


def test_foreign_images_of_a_real_run_are_in_the_page(real, real_page):
    table = rows(real_page, "likelihood")

    def losses(images: ImageSet) -> list[str]:
        return ["10", f"{images.nats_per_pixel:.4f}", f"{images.standard_deviation:.4f}"]

    assert ["own test images", *losses(real.outliers.own), DASH, DASH] in table
    assert len(real.outliers.foreign) > 2
    for row in real.outliers.foreign:
        aurocs = percents(row.auroc_loss, row.auroc_typicality)
        assert [row.name, *losses(row), *aurocs] in table


def test_a_real_fine_tuning_is_in_the_page(real, real_page):
    result = real.fine_tuning
    shares = percents(result.test_accuracy, result.validation_accuracy)
    best, layer = str(result.best_step), str(result.layer)
    right = f"{round(16 * result.test_accuracy)} of 16"
    shares[1:1] = [interval(result.test_accuracy), right]
    row = ["tuned", *shares, best, str(result.steps), "1", layer, spoken(result.seconds)]
    assert row in rows(real_page, "finetuning")


def test_the_page_loads_nothing(real_page):
    addresses = re.findall(r"""(?:src|href|srcset|data)\s*=\s*["']([^"']*)""", real_page)
    assert len(addresses) > 5
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert all(address.startswith("#") for address in re.findall(r"url\(([^)]*)", real_page))
    assert not re.search(r"<(script|link|iframe|object)|@import", real_page)


def test_every_figure_of_a_table_has_its_head_before_it_on_a_phone(real_page):
    tables = re.findall(r'<table class="figures">.*?</table>', real_page, re.DOTALL)
    assert len(tables) > 7
    for table in tables:
        heads = re.findall(r'<th scope="col">(.*?)</th>', table)[1:]
        for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)[1:]:
            cells = re.findall(r'<td data-head="(.*?)">', row)
            assert cells == [plain(head) for head in heads]


def test_every_column_of_every_table_has_a_head(real_page):
    tables = re.findall(r"<table.*?</table>", real_page, re.DOTALL)
    headed = [table for table in tables if "<thead>" in table]
    assert len(headed) > 10
    for table in headed:
        heads, *lines = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        texts = re.findall(r"<th[^>]*>(.*?)</th>", heads)
        assert all(plain(text).strip() for text in texts)
        assert {len(re.findall(r"<t[hd]", line)) for line in lines} == {len(texts)}


def test_several_runs_have_a_table_of_what_differs(real_page):
    table = rows(real_page, "runs")
    assert ["setting", "autoregressive", "bert"] in table
    assert ["model.causal", "True", "False"] in table


def test_every_tag_is_closed(real_page):
    open_tags = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Checker().feed(real_page)
    assert open_tags == []


def test_the_same_runs_make_the_same_page(real, real_page, tmp_path):
    write_report(real.paths, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == real_page


def test_the_figures_of_a_quickstart_are_in_the_page(measured_run, tmp_path, tiny_palette):
    page = page_of(measured_run, new_finetuned(tmp_path / "tuned", tiny_palette))
    for figure in (
        "56.8%", "38.3%", "22.3%", "81.3%", "0.7476", "1.0786", "1,440", "463,680", "1,234",
        "igpt pretrain digits --out a", "66904fb", "torch 2.99", "57a79cc51254a403",
        "log 8 = 2.08",
    ):  # fmt: skip
        assert figure in plain(page)
    assert sections(page) == [
        "results", "runs", "palette", "loss", "probe", "completions", "finetuning", "provenance",
    ]  # fmt: skip


def test_what_is_not_measured_has_no_section_but_a_command(run):
    page = page_of(run)
    assert sections(page) == ["results", "runs", "palette", "loss", "missing", "provenance"]
    for command in ("evaluate", "probe", "complete", "finetune"):
        assert f"igpt {command} {run.path}" in plain(page)


def test_a_run_that_has_only_begun_is_in_the_page(tmp_path, tiny_palette):
    run = new_run(tmp_path / "a", tiny_palette, steps=0)
    (run.path / "provenance.json").unlink()
    (run.path / "palette.npy").unlink()
    page = page_of(run)
    assert sections(page) == ["results", "runs", "missing", "provenance"]
    assert f"igpt resume {run.path}" in plain(page)
    assert "not finished" in page


def test_a_surprise_map_alone_has_its_section(run):
    write_picture(run.path / "surprise.png")
    page = page_of(run)
    shown = ["results", "runs", "palette", "loss", "likelihood", "missing", "provenance"]
    assert sections(page) == shown
    assert "AUROC" not in page


def test_the_page_says_what_the_accuracies_say(measured_run):
    text = "Pretraining helped: 56.8\u00a0% against 22.4\u00a0% for the network untrained"
    assert text in page_of(measured_run)


def test_what_is_left_out_is_named(measured_run):
    for name, store in (("probe.json", "these"), ("probe-untrained.json", "others")):
        made_from = {"all": MadeFrom(model="", store=store, settings={})}
        measured_run.write(name, measured_run.read(name, LayerProbes), made_from)
    page = page_of(measured_run)
    note = "Left out, as they are of other images than the probe of a: probe-untrained.json."
    assert f'<p class="note">{note}</p>' in page
    assert "untrained network" not in page


@pytest.mark.parametrize(
    ("order", "words"),
    [("raster", "from the left and from above"), ("hilbert", "in the order hilbert")],
)
def test_surprise_is_told_in_the_order_that_is_read(tmp_path, tiny_palette, order, words):
    model = dataclasses.replace(RECIPE.model, image_size=8, order=order)
    recipe = dataclasses.replace(RECIPE, model=model)
    run = new_run(tmp_path / "a", tiny_palette, recipe=recipe)
    write_picture(run.path / "surprise.png")
    assert f"given those before it, {words}." in page_of(run)


def test_the_page_is_dated_by_its_runs(tmp_path, tiny_palette):
    runs = [new_run(tmp_path / name, tiny_palette) for name in "ab"]
    assert "Trained on 2026-11-26, with igpt 0.1.0." in page_of(*runs)
    later = dataclasses.replace(PROVENANCE, started="2026-12-01T10:00:00+0000", igpt="0.2.0")
    runs[1].write("provenance.json", later)
    page = page_of(*runs)
    assert "Trained on 2026-11-26 to 2026-12-01, with igpt 0.1.0, 0.2.0." in page


def test_one_is_no_plural(tmp_path, tiny_palette):
    model = dataclasses.replace(RECIPE.model, layers=1, heads=1)
    page = page_of(
        new_run(tmp_path / "a", tiny_palette, recipe=dataclasses.replace(RECIPE, model=model))
    )
    assert "1 layer, " in page
    assert "1 head<" in page


def test_a_command_is_broken_at_its_spaces_alone(run):
    said = "igpt pretrain digits --set training.steps=3"
    run.write("provenance.json", dataclasses.replace(PROVENANCE, command=said))
    page = page_of(run)
    assert " ".join(f"<span>{word}</span>" for word in said.split()) in page


def test_foreign_images_that_are_likelier_than_the_run_s_own_are_named(run):
    run.write("outliers.json", outliers("noise", "flat", auroc_loss=(0.987, 0.004)))
    sentence = "The loss tells noise from own images; it finds flat likelier than them."
    assert sentence in page_of(run)


def outliers(*names: str, auroc_loss: tuple[float, ...]) -> OutliersResult:
    losses = {"images": 1234, "nats_per_pixel": 2.3456, "standard_deviation": 0.4567}
    foreign = (
        ForeignSet(name=name, auroc_loss=auroc, auroc_typicality=0.9, **losses)
        for name, auroc in zip(names, auroc_loss, strict=True)
    )
    return OutliersResult(
        seed=0, typical_nats_per_pixel=2.3211, validation_images=432, own=ImageSet(**losses),
        foreign=tuple(foreign),
    )  # fmt: skip


def test_what_a_single_subset_cannot_say_is_a_dash(run):
    row = FewLabelsRow(
        labels_per_class=2500, mean=0.55, standard_deviation=None, accuracies=(0.55,),
        penalties=(1e-3,), converged=True,
        fine_tuned=Accuracies(mean=0.4219, standard_deviation=None, accuracies=(0.4219,)),
    )  # fmt: skip
    result = FewLabelsResult(
        layer=3, layer_chosen="given", test_images=1440, subsets=1, seed=0, finetune_steps=9,
        rows=(row, dataclasses.replace(row, labels_per_class=4, fine_tuned=None)),
    )  # fmt: skip
    run.write("few-labels.json", result)
    table = rows(page_of(run), "features")
    assert ["a", "2,500", "55.0%", DASH, "42.2%", "1", "1,440", "3"] in table
    assert ["a", "4", "55.0%", DASH, DASH, "1", "1,440", "3"] in table


@pytest.mark.parametrize("correlation", [-1.0, None])
def test_a_probe_by_sgd_is_said_to_be_one(run, correlation):
    probe = dataclasses.replace(probes(0.4321, solver="sgd"), rank_correlation=correlation)
    run.write("probe-sgd.json", probe)
    ranks = DASH if correlation is None else "-1.00"
    row = ["a", "SGD", "43.2%", interval(622 / 1440, 1440), "42.2%", "0", "0.001", ranks]
    assert row in rows(page_of(run), "features")


def test_the_best_layer_is_the_one_of_validation(run):
    probe = dataclasses.replace(probes(0.9, 0.8), best_layer=1, test_accuracy=0.8)
    run.write("probe.json", probe)
    page = page_of(run)
    assert "<b>80.0%</b><span>pretrained features" in page
    assert re.search(r'<tr class="best"><th scope="row">1</th>', page)


def test_a_fit_that_did_not_converge_is_said(run):
    probe = probes(0.4, 0.5)
    run.write("probe.json", probe)
    assert "did not converge" not in page_of(run)
    loose = dataclasses.replace(probe.layers[0], converged=False)
    run.write("probe.json", dataclasses.replace(probe, layers=(loose, probe.layers[1])))
    assert "the fit on layer 0 did not converge" in page_of(run)


def test_a_penalty_at_the_edge_of_its_grid_is_said(run):
    probe = probes(0.4, 0.5, raw=0.3)
    run.write("probe.json", probe)
    assert "of its grid" not in page_of(run)
    last = dataclasses.replace(probe.layers[1], at_edge=True)
    pixels = dataclasses.replace(probe.raw_pixels, at_edge=True)
    layers = (probe.layers[0], last)
    run.write("probe.json", dataclasses.replace(probe, layers=layers, raw_pixels=pixels))
    page = page_of(run)
    assert "the penalty of layer 1 is at the edge of its grid" in page
    assert "raw pixels: at the edge of its grid" in page


def test_the_headline_of_several_fine_tunings_is_the_best_on_validation(tmp_path, tiny_palette):
    accuracies = {"a": (0.9, 0.5), "b": (0.7, 0.6)}
    runs = [
        new_finetuned(tmp_path / name, tiny_palette, test=test, validation=validation)
        for name, (test, validation) in accuracies.items()
    ]
    assert "<b>70.0%</b><span>fine-tuned" in page_of(*runs)
    final = new_finetuned(tmp_path / "final", tiny_palette, test=0.65, validation=None)
    assert "<b>65.0%</b><span>fine-tuned" in page_of(*runs, final)  # learned from validation too


def test_what_a_run_says_is_escaped(tmp_path, tiny_palette):
    words = "<b>bold</b> & $x$ </pre><script>alert(1)</script>"
    recipe = dataclasses.replace(RECIPE, description=words)
    run = new_run(tmp_path / "<i>", tiny_palette, name=words, recipe=recipe)
    said = dataclasses.replace(PROVENANCE, command=words, libraries={words: words})
    run.write("provenance.json", said)
    run.write("outliers.json", outliers(words, auroc_loss=(0.4,)))
    page = page_of(run)
    assert "<script" not in page
    assert "<b>bold" not in page
    assert "<i>" not in page
    assert page.count("&lt;b&gt;bold&lt;/b&gt;") >= 6


def test_every_run_keeps_its_color_in_all_plots(tmp_path, tiny_palette):
    runs = [new_run(tmp_path / f"run-{number}", tiny_palette, steps=3) for number in range(12)]
    page = page_of(*runs)
    colors = re.findall(r'class="card" style="border-top-color: (#\w+)', page)
    assert len(set(colors)) == 12
    assert all(f"stroke: {color}" in page for color in colors)


def test_without_completions_the_newest_sample_stands_for_them(run):
    for step in (5, 999_999, 1_000_000):
        write_picture(run.path / "samples" / f"step-{step:06}.png")
    page = page_of(run)
    assert "at step 1,000,000" in page
    assert re.findall(r"<figcaption>step ([\d,]+)<", page) == ["5", "999,999", "1,000,000"]


def test_a_bert_run_promises_no_completions(tmp_path, tiny_palette):
    model = dataclasses.replace(RECIPE.model, causal=False)
    bert = dataclasses.replace(RECIPE, model=model)
    page = page_of(new_run(tmp_path / "a", tiny_palette, recipe=bert))
    assert "BERT: 15% hidden pixels" in page
    assert "igpt complete" not in plain(page)


def test_a_folder_that_is_no_run_is_refused_and_nothing_written(tmp_path, run):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty holds no run"):
        write_report([run.path, tmp_path / "empty"], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_damaged_picture_is_refused_and_nothing_written(run):
    (run.path / "completions.png").write_bytes(b"\x89PNG")
    with pytest.raises(DataError, match=r"completions\.png"):
        page_of(run)
    assert not (run.path.parent / "report.html").exists()


def test_no_runs_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at least one run"):
        write_report([], tmp_path / "report.html")


def test_a_folder_and_other_endings_are_refused(run, tmp_path):
    with pytest.raises(ConfigError, match="is a folder, where a file is wanted"):
        write_report([run.path], run.path)
    with pytest.raises(ConfigError, match=r"a report is written as \.html, got --out .*page\.pdf"):
        write_report([run.path], tmp_path / "page.pdf")
    assert (run.path / "recipe.json").is_file()


def test_a_newer_report_replaces_an_earlier_one_and_no_other_page(run, tmp_path):
    page = tmp_path / "report.html"
    write_report([run.path], page)
    write_report([run.path], page)
    page.write_text("<html>mine</html>")
    with pytest.raises(ConfigError, match="is there already"):
        write_report([run.path], page)
    write_report([run.path], page, overwrite=True)
    assert "igpt" in page.read_text()


def test_a_full_disk_leaves_nothing(tmp_path, run, monkeypatch):
    def full(self, *_, **__):
        self.open("wb").close()
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DataError, match=r"could not write .*report\.html: No space left"):
        write_report([run.path], tmp_path / "report.html")
    assert sorted(tmp_path.rglob("*")) == before
