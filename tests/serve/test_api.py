import json

import numpy as np
import pytest
from tests.serve.serving import asking, picture_file

from igpt.evaluation.completion import complete_images
from igpt.evaluation.likelihood import next_pixel_distribution, surprise_maps
from igpt.formats.load import load
from igpt.model.config import SamplingConfig
from igpt.serve.models import Models


def tokens(client, model="a"):
    answer = client.post(f"/api/models/{model}/tokens", content=picture_file())
    assert answer.status_code == 200, answer.text
    return answer.json()["tokens"]


def events(client, model="a", **asked):
    answer = client.post(f"/api/models/{model}/completions", json=asked)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def images(drawn, given, samples):
    """Return the tokens of all images, put together from what was given and what came."""
    whole = np.full((samples, 16), -1)
    whole[:, : len(given)] = given
    for event in drawn:
        assert (whole[event["sample"], event["positions"]] == -1).all(), "drawn twice"
        whole[event["sample"], event["positions"]] = event["tokens"]
    return whole


def test_the_models_are_named_after_their_folders_and_loaded_when_asked_for(folders):
    with asking(folders) as client:

        def states():
            return {one["name"]: one["state"] for one in client.get("/api/models").json()["models"]}

        assert states() == {"a": "not loaded", "bert": "not loaded"}
        assert client.get("/api/models/bert").json()["network"]["causal"] is False
        assert states() == {"a": "not loaded", "bert": "ready"}


def test_a_picture_becomes_the_tokens_of_the_library(client, pretrained):
    expected = pretrained.tokenizer.encode([picture_file()])[0].tolist()
    assert tokens(client) == expected


def test_the_palette_and_the_reading_order_give_the_picture_back(client, pretrained):
    model, read = client.get("/api/models/a").json(), tokens(client)
    shown = [model["palette"][read[position]] for position in model["reading"]]
    decoded = pretrained.tokenizer.decode(np.array([read]))[0]
    assert shown == decoded.reshape(-1, 3).tolist()


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_completions_come_in_pieces_and_are_those_of_the_library(client, pretrained, rows):
    read = tokens(client)
    *drawn, done = events(client, tokens=read, given=4 * rows, samples=3, top_k=9, seed=5)
    assert done["event"] == "done"
    assert len(drawn) >= 3 * min(2, 4 - rows)
    expected = complete_images(
        pretrained, pretrained.tokenizer.squares([picture_file()]), rows=rows, samples=3,
        sampling=SamplingConfig(top_k=9), seed=5,
    )[0]  # fmt: skip
    whole = images(drawn, read[: 4 * rows], 3)
    np.testing.assert_array_equal(pretrained.tokenizer.decode(whole), expected)


def test_any_region_is_drawn_by_a_network_that_can_as_the_library_draws_it(client, folders):
    read, hidden = tokens(client, "bert"), [1, 2, 6, 10]
    *drawn, done = events(client, "bert", tokens=read, hidden=hidden, samples=2, seed=3, passes=3)
    assert done["event"] == "done"
    whole = np.tile(read, (2, 1))
    whole[:, hidden] = -1
    for event in drawn:
        whole[event["sample"], event["positions"]] = event["tokens"]
    region = np.isin(np.arange(16), hidden).reshape(4, 4)
    bert = load(folders[1])
    expected = complete_images(
        bert, bert.tokenizer.squares([picture_file()]), region=region, samples=2,
        sampling=SamplingConfig(passes=3), seed=3,
    )[0]  # fmt: skip
    np.testing.assert_array_equal(bert.tokenizer.decode(whole), expected)


def test_an_autoregressive_network_draws_a_region_that_comes_last_as_well(client):
    read = tokens(client)
    by_region = events(client, tokens=read, hidden=[12, 13, 14, 15], samples=1)[:-1]
    by_count = events(client, tokens=read, given=12, samples=1)[:-1]  # perhaps in other pieces
    assert (images(by_region, read[:12], 1) == images(by_count, read[:12], 1)).all()


def test_images_are_drawn_from_nothing_where_no_tokens_are_sent(client):
    *drawn, _ = events(client, samples=2)
    assert (images(drawn, [], 2) >= 0).all()


def test_another_seed_draws_other_images_and_the_same_one_the_same(client):
    def drawn(seed):
        return images(events(client, samples=2, seed=seed)[:-1], [], 2)

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert (first == again).all()
    assert (first != other).any()


def test_the_surprise_map_is_that_of_the_library(client, pretrained):
    found = client.post("/api/models/a/surprise", json={"tokens": tokens(client)}).json()
    expected = surprise_maps(pretrained, pretrained.tokenizer.squares([picture_file()]))[0]
    np.testing.assert_allclose(found["nats"], expected.ravel(), rtol=1e-6)
    assert found["nats_per_pixel"] == pytest.approx(expected.mean())
    assert found["chance_nats_per_pixel"] == pytest.approx(np.log(16))


def test_the_expectation_at_a_pixel_is_that_of_the_library_and_agrees_with_the_surprise(
    client, pretrained
):
    read = tokens(client)
    nats = client.post("/api/models/a/surprise", json={"tokens": read}).json()["nats"]
    for position in (0, 7, 15):
        asked = {"tokens": read, "position": position}
        found = client.post("/api/models/a/distribution", json=asked).json()
        given = pretrained.tokenizer.encode([picture_file()])[:, :position]
        chances = next_pixel_distribution(pretrained.model, given)[0].numpy()
        order = np.argsort(-chances, kind="stable")[:12]
        assert [one["token"] for one in found["likeliest"]] == order.tolist()
        listed = [one["probability"] for one in found["likeliest"]]
        np.testing.assert_allclose(listed, chances[order], rtol=1e-5)
        assert sum(listed) + found["others"] == pytest.approx(1)
        assert found["nats"] == pytest.approx(nats[position], rel=1e-4)


def test_a_network_that_sees_all_pixels_expects_one_from_all_others(client):
    read = tokens(client, "bert")

    def at_first(tokens):
        asked = {"tokens": tokens, "position": 0}
        return client.post("/api/models/bert/distribution", json=asked).json()["likeliest"]

    own = [(read[0] + 1) % 16, *read[1:]]
    last = [*read[:-1], (read[-1] + 1) % 16]
    assert at_first(own) == at_first(read)
    assert at_first(last) != at_first(read)


def test_a_model_in_no_run_has_no_probes(client):
    assert client.get("/api/models/a/probes").json() == {"probe": None, "untrained": None}


def test_what_a_run_s_probes_read_is_told(probed):
    with asking([probed]) as client:
        told = client.get("/api/models/probed/probes").json()
    assert [row["test_accuracy"] for row in told["probe"]["layers"]] == [0.41, 0.5678]
    assert told["probe"]["best_layer"] == 1
    assert told["probe"]["raw_pixels"]["test_accuracy"] == 0.3833
    assert told["untrained"]["test_accuracy"] == 0.21


def test_two_models_of_one_name_get_two(folders):
    models = Models([folders[0], folders[0], folders[1].parent], device="cpu")
    assert [state.name for state in models.states] == ["a", "a-2", "bert"]


def test_the_api_describes_itself_with_the_types_of_its_answers(client):
    description = client.get("/openapi.json").json()
    complete = description["paths"]["/api/models/{name}/completions"]["post"]
    line = complete["responses"]["200"]["content"]["application/jsonl"]["itemSchema"]
    assert {"#/components/schemas/Drawn", "#/components/schemas/Done"} <= {
        one["$ref"] for one in line["oneOf"]
    }
    assert "LayerProbes" in description["components"]["schemas"]
    asked = description["components"]["schemas"]["CompletionAsked"]["properties"]
    assert all("description" in field for field in asked.values())


def test_the_page_and_what_it_loads_are_there(client):
    page = client.get("/")
    assert "<title>igpt" in page.text
    for name in ("page.css", "main.js", "panel.js", "api.js", "charts.js", "icon.svg"):
        assert client.get(f"/page/{name}").status_code == 200
