"""The page as people use it, in a headless Chromium that is there already."""

import shutil

import numpy as np
import pytest
from PIL import Image
from tests.report.conftest import probes
from tests.serve.browsing import bring, drawn_in, drop, ended, held, opened, panel, pixels
from tests.serve.conftest import run_with_probes
from tests.serve.serving import SlowModels, picture_file, running

from igpt.serve.models import Models

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def address(folders):
    with running(Models(folders, device="cpu")) as client:
        yield str(client.base_url)


@pytest.fixture
def page(browser, address):
    """The page of two models, once the first of them is loaded; nothing went wrong on it."""
    with opened(browser, address) as page:
        yield page


def test_a_dropped_picture_is_seen_in_palette_colors_and_completed(page, pretrained):
    drop(page, picture_file())
    drawn_in(page)
    tokenizer = pretrained.tokenizer
    expected = tokenizer.decode(tokenizer.encode([picture_file()]))[0]
    seen = pixels(page.locator(".view"))
    np.testing.assert_array_equal(seen[:2, :, :3], expected[:2])
    assert (seen[2:, :, 3] < 255).all()
    assert page.locator(".drawn canvas").count() == 4
    for canvas in page.locator(".drawn canvas").all():
        shown = pixels(canvas)
        assert (shown[..., 3] == 255).all()
        np.testing.assert_array_equal(shown[:2, :, :3], expected[:2])
        assert {*map(tuple, shown[2:, :, :3].reshape(-1, 3))} <= {
            *map(tuple, tokenizer.palette.rgb)
        }


def test_without_a_picture_it_draws_from_nothing_as_many_as_are_asked_for(page):
    page.get_by_label("Completions").fill("2")
    page.keyboard.press("Enter")
    drawn_in(page)
    assert page.locator(".drawn canvas").count() == 2


def test_another_seed_draws_anew(page):
    page.get_by_role("button", name="Draw").click()
    drawn_in(page)
    before = pixels(page.locator(".drawn canvas").first)
    page.get_by_role("button", name="Another").click()
    page.get_by_text("Drawing …").wait_for(state="hidden")
    drawn_in(page)
    assert page.get_by_label("Seed").input_value() != "0"
    assert (pixels(page.locator(".drawn canvas").first) != before).any()


def test_pixels_appear_while_it_draws_and_stop_leaves_them(browser, folders):
    slow = SlowModels(folders[:1], device="cpu")
    with running(slow) as client, opened(browser, str(client.base_url)) as page:
        page.get_by_role("button", name="Draw").click()
        first = page.locator(".drawn canvas").first
        first.wait_for()
        while not (drawn := (pixels(first)[..., 3] > 0).sum()):
            page.wait_for_timeout(20)
        page.keyboard.press("Escape")
        page.get_by_text("Stopped.").wait_for()
        assert 0 < drawn < 16
        assert drawn <= (pixels(first)[..., 3] > 0).sum() < 16
        assert page.get_by_role("button", name="Stop").is_disabled()


@pytest.mark.parametrize(("button", "said"), [("Stop", "Stopped."), ("Another", "Drawn in")])
def test_what_is_drawn_can_be_ended_while_it_is_still_painted(page, button, said):
    page.evaluate("window.requestAnimationFrame = (paint) => setTimeout(paint, 10000)")
    with page.expect_event("requestfinished", lambda one: one.url.endswith("/completions")):
        page.get_by_role("button", name="Draw").click()
    page.evaluate("window.requestAnimationFrame = (paint) => setTimeout(paint, 0)")
    page.get_by_role("button", name=button).click()
    page.get_by_text(said).wait_for()
    page.locator("#stop:disabled").wait_for(timeout=5000)
    assert page.get_by_role("button", name="Save PNG").is_enabled()


def test_a_picture_whose_reading_was_stopped_is_read_once_it_is_to_be_drawn(page, pretrained):
    page.route("**/tokens", lambda _: None)  # never answered
    with page.expect_event("request", lambda one: one.url.endswith("/tokens")):
        drop(page, picture_file())
    page.keyboard.press("Escape")
    page.get_by_text("Stopped.").wait_for()
    page.unroute("**/tokens")
    assert page.locator("#given-said").inner_text() == "2 of 4 rows"
    page.get_by_role("button", name="Draw").click()
    drawn_in(page)
    tokenizer = pretrained.tokenizer
    expected = tokenizer.decode(tokenizer.encode([picture_file()]))[0]
    shown = pixels(page.locator(".drawn canvas").first)
    np.testing.assert_array_equal(shown[:2, :, :3], expected[:2])


def test_a_picture_that_comes_before_the_model_is_completed_from_its_half(page):
    with held(page, "**/api/models/a"):
        page.reload()
        page.get_by_text("Loading the model").wait_for()
        drop(page, picture_file())
    drawn_in(page)
    assert page.locator("#given-said").inner_text() == "2 of 4 rows"
    assert (pixels(page.locator(".view"))[..., 3] == 255).sum() == 8


@pytest.mark.parametrize("way", ["picked", "pasted"])
def test_a_picture_is_picked_or_pasted(page, way):
    if way == "picked":
        file = {"name": "cat.png", "mimeType": "image/png", "buffer": picture_file()}
        page.locator("#file").set_input_files(file)
    else:
        bring(page, picture_file(), "", "new ClipboardEvent('paste', { clipboardData: data })")
    drawn_in(page)
    said = page.locator("#said").inner_text()
    assert said == ("cat.png" if way == "picked" else "A pasted picture")


def let_bert_alone_draw(page):
    """Drop a picture for the network that draws any region, and wait for what it draws."""
    page.get_by_role("checkbox", name="bert").check()
    page.get_by_role("checkbox", name="a", exact=True).uncheck()
    page.get_by_text("Choose a picture, or press Draw").wait_for()
    drop(page, picture_file())
    drawn_in(page, "bert")


def test_what_is_chosen_is_what_is_asked_for(page):
    let_bert_alone_draw(page)
    for label, value in (
        ("Given", 1), ("Temperature", 0.5), ("Completions", 2), ("Top k colors", 5),
        ("Passes, of networks", 3), ("Seed", 9),
    ):  # fmt: skip
        page.get_by_label(label).fill(str(value))
    assert page.locator("#temperature-said").inner_text() == "0.50"
    with page.expect_request("**/bert/completions") as asked:
        page.get_by_role("button", name="Draw").click()
    body = asked.value.post_data_json
    assert len(body.pop("tokens")) == 16
    assert body == {
        "given": 4, "temperature": 0.5, "samples": 2, "top_k": 5, "passes": 3, "seed": 9,
    }  # fmt: skip


def test_a_page_that_is_gone_back_to_says_what_it_asks_for(page):
    page.get_by_label("Temperature").fill("0.5")
    page.goto(page.url + "openapi.json")
    page.go_back()
    page.get_by_text("Choose a picture, or press Draw").wait_for()
    assert page.get_by_label("Temperature").input_value() == "1"
    assert page.locator("#temperature-said").inner_text() == "1.00"


def test_rows_are_spoken_of_only_where_a_network_reads_them_one_after_another(page):
    def in_columns(route):
        model = route.fetch().json()
        route.fulfill(json={**model, "network": {**model["network"], "order": "columns"}})

    page.route("**/api/models/a", in_columns)
    page.reload()
    page.get_by_text("Choose a picture, or press Draw").wait_for()
    drop(page, picture_file())
    drawn_in(page)
    assert page.locator("#given-said").inner_text() == "50 %"


def test_what_goes_wrong_with_one_model_is_said_there_and_the_picture_is_kept(page):
    page.get_by_role("checkbox", name="bert").check()
    panel(page, "bert").get_by_text("Choose a picture").wait_for()
    page.route(
        "**/a/surprise", lambda route: route.fulfill(status=429, json={"detail": "too much"})
    )
    drop(page, picture_file())
    drawn_in(page, "bert")
    assert panel(page, "a").locator(".status.error").inner_text() == "Too much."
    assert page.locator("#said").inner_text() == "cat.png"
    page.get_by_role("button", name="Draw").click()
    drawn_in(page, "a")


def test_a_wrong_picture_is_looked_at_by_no_model_any_more(page):
    page.get_by_role("checkbox", name="bert").check()
    panel(page, "bert").get_by_text("Choose a picture").wait_for()
    with held(page, "**/bert/tokens"), ended(page, "/bert/tokens"):
        drop(page, b"no picture at all")
        page.locator("#said.error").wait_for()
    page.locator("#stop:disabled").wait_for()
    assert page.locator(".status").all_inner_texts() == ["", ""]


def test_a_model_that_is_no_longer_chosen_is_not_drawn_by(page):
    page.get_by_role("checkbox", name="bert").check()
    panel(page, "bert").get_by_text("Choose a picture").wait_for()
    with held(page, "**/bert/completions"):
        drop(page, picture_file())
        drawn_in(page, "a")
        with ended(page, "/bert/completions"):
            page.get_by_role("checkbox", name="bert").uncheck()
    page.get_by_role("button", name="Save PNG", disabled=False).wait_for()
    page.get_by_role("checkbox", name="a", exact=True).uncheck()
    assert page.get_by_role("button", name="Save PNG").is_disabled()
    page.get_by_role("button", name="Draw").click()
    assert page.locator("#said.error").inner_text() == "Choose a model."
    page.get_by_role("checkbox", name="a", exact=True).check()
    drawn_in(page, "a")
    assert page.locator("#said").inner_text() == "cat.png"


def test_the_curve_of_a_run_s_probes_is_drawn_even_where_all_is_wrong(
    browser, probed, pretrained, tmp_path
):
    none = probes(0.0, 0.0)
    wrong = run_with_probes(tmp_path / "wrong", pretrained, probe=none, untrained=none)
    models = Models([probed, wrong], device="cpu")
    with running(models) as client, opened(browser, str(client.base_url)) as page:
        page.get_by_role("checkbox", name="wrong").check()
        for name, said in (
            ("probed", "on layer 1 is right for 56.8 % of the test images, on raw pixels for 38.3"),
            ("wrong", "on layer 0 is right for 0.0 % of the test images"),
        ):
            panel(page, name).get_by_text("What its layers know").click()
            panel(page, name).get_by_text(said).wait_for()
            assert panel(page, name).locator("svg .dot").count() == 2
            assert panel(page, name).locator("svg .untrained").count() == 1


def test_a_wrong_file_gets_the_line_that_the_command_prints(page):
    drop(page, b"no picture at all, but a text", name="notes.txt")
    said = page.locator("#said.error")
    said.wait_for()
    assert said.inner_text().startswith("The picture is not an image in a format that can be read;")
    drop(page, picture_file())
    drawn_in(page)
    assert page.locator("#said").inner_text() == "cat.png"


def test_models_are_seen_side_by_side(page):
    drop(page, picture_file())
    page.get_by_role("checkbox", name="bert").check()
    page.locator(".view").nth(1).wait_for()
    first, second = (page.locator(".panel").nth(number).bounding_box() for number in (0, 1))
    assert second["x"] > first["x"] + first["width"] - 1
    page.get_by_role("checkbox", name="bert").uncheck()
    assert page.locator(".panel").count() == 1


def test_what_is_painted_over_is_drawn_anew_and_nothing_else(page):
    let_bert_alone_draw(page)
    view = page.locator(".view")
    before = pixels(view)
    box = view.bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.up()
    painted = pixels(view)
    assert (painted[0, :2, 3] < 255).all()
    assert (painted[..., 3] == 255).sum() == 14
    page.get_by_role("button", name="Draw").click()
    page.get_by_text("Drawing …").wait_for(state="hidden")
    drawn_in(page, "bert")
    shown = pixels(page.locator(".drawn canvas").first)
    assert (shown[..., 3] == 255).all()
    np.testing.assert_array_equal(shown[0, 2:], before[0, 2:])
    np.testing.assert_array_equal(shown[2:], painted[2:])


def test_a_stroke_that_ends_outside_the_picture_does_not_decide_the_next_one(page):
    let_bert_alone_draw(page)
    view = page.locator(".view")
    box = view.bounding_box()
    first, second, outside = (
        (box["x"] + share * box["width"], box["y"] + 0.1 * box["height"])
        for share in (0.1, 0.4, -0.05)
    )
    page.mouse.move(*second)
    page.mouse.down()
    page.mouse.move(*first)
    page.mouse.move(*outside)
    page.mouse.up()
    assert (pixels(view)[0, :2, 3] < 255).all()
    page.mouse.move(*first)
    page.mouse.down()
    page.mouse.up()
    seen = pixels(view)[..., 3]
    assert seen[0, 1] < 255
    assert (seen == 255).sum() == 15


def test_arrow_keys_look_at_pixels_and_it_says_what_the_network_expects(page):
    drop(page, picture_file())
    drawn_in(page)
    page.locator(".view").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.get_by_text("Row 2, column 2:").wait_for()
    assert page.locator(".bars .own").count() == 1


def test_the_grid_is_saved_as_a_png(page):
    drop(page, picture_file())
    drawn_in(page)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save PNG").click()
    with Image.open(saved.value.path()) as image:
        assert image.format == "PNG"
        assert image.size[0] > 4 * image.size[1]  # what was given, and four completions


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (1200, "dark"), (360, "light")])
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_window(
    browser, address, width, scheme
):
    from axe_playwright_python.sync_playwright import Axe

    with opened(browser, address, width=width, scheme=scheme, bypass_csp=True) as page:
        drop(page, picture_file())
        drawn_in(page)
        if width < 400:
            assert page.locator(".chances").bounding_box()["height"] < 100  # as long as it is empty
        page.locator(".view").focus()
        page.keyboard.press("ArrowDown")
        page.locator(".bars .own").wait_for()
        found = Axe().run(page).response["violations"]
        assert [one for one in found if one["impact"] in ("serious", "critical")] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
