import pytest
import torch
from tests.conftest import random_model, random_tokens

from igpt.formats.load import load
from igpt.model.class_head import MappedHead, fold
from igpt.model.classes import class_logits
from igpt.model.pretrained import Pretrained
from igpt.pixels.tokenizer import ImageTokenizer


@pytest.fixture
def classifier(tiny_palette):
    """A network whose head reads features through a map that is far from round."""
    generator = torch.Generator().manual_seed(0)
    map = torch.randn(25, 24, generator=generator) * torch.logspace(-2, 2, 25)[:, None]
    head = MappedHead(map, torch.randn(3, 25, generator=generator))
    plain = Pretrained(model=random_model(), tokenizer=ImageTokenizer(tiny_palette, 4))
    return plain.with_class_head(("a", "b", "c"), 2, head)


def logits_of(pretrained):
    with torch.no_grad():
        return class_logits(pretrained.model, random_tokens(), layer=pretrained.class_layer)


def test_logits_are_those_of_the_mapped_mean_state(classifier):
    state = list(classifier.model.states(random_tokens()))[2].mean(dim=1)
    head = classifier.model.class_head
    wanted = torch.einsum("lm,mw,bw->bl", head.weight, head.map, state)
    torch.testing.assert_close(logits_of(classifier), wanted)


def test_a_saved_classifier_has_a_plain_head_that_gives_the_same_logits(classifier, tmp_path):
    classifier.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert type(loaded.model.class_head) is torch.nn.Linear
    assert loaded.model.class_head.weight.shape == (3, 24)
    torch.testing.assert_close(logits_of(loaded), logits_of(classifier), rtol=1e-5, atol=1e-3)
    assert isinstance(classifier.model.class_head, MappedHead)  # which goes on learning


def test_the_map_does_not_learn(classifier):
    names = [name for name, _ in classifier.model.class_head.named_parameters()]
    assert names == ["weight"]


def test_weights_without_a_map_stay_as_they_are():
    weights = random_model(classes=2).state_dict()
    assert fold(weights) is weights
