"""Images to features, as scikit-learn would have it."""

import pickle
import shutil

import numpy as np
import pandas
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from tests.conftest import SHAPES_RECIPE, with_training, write_shapes
from tests.system import run as run_program

import igpt
from igpt.errors import CheckpointError, ConfigError, DataError
from igpt.evaluation.logistic import LinearProbe
from igpt.runs.image_features import ImageGPTFeatures
from igpt.runs.measure import probe_run
from igpt.runs.pretrain import pretrain

CPU = {"device": "cpu"}


@pytest.fixture(scope="module")
def run(shapes_store, tmp_path_factory):
    """A run of two layers, and of 4x4 pixels."""
    folder = tmp_path_factory.mktemp("trained")
    colors = np.random.default_rng(0).uniform(-1, 1, (16, 3)).astype(np.float32)
    igpt.Palette(colors).save(folder / "palette.npy")
    return pretrain(
        SHAPES_RECIPE, data=shapes_store.path, palette=folder / "palette.npy",
        out=folder / "run", **CPU,
    ).path  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Files of two classes, and which class each is of."""
    folder = write_shapes(tmp_path_factory.mktemp("photos"), images=24, size=8)
    files = sorted(folder.rglob("*.png"))
    return files, [file.parent.name for file in files]


@pytest.fixture(scope="module")
def pixels(photos):
    return np.stack([np.asarray(Image.open(file)) for file in photos[0]])


def features_of(run, images, **settings):
    return ImageGPTFeatures(run, **CPU, **settings).fit_transform(images)


def test_the_features_are_those_of_the_layer(run, pixels):
    records = igpt.Records(name="test", images=pixels, labels=None, class_names=None)
    wanted = igpt.extract_features(igpt.load(run), records)
    for layer in (0, 1, 2):
        found = features_of(run, pixels, layer=layer)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, wanted[:, layer])


@pytest.mark.parametrize(
    "given",
    [
        lambda files: [str(file) for file in files],
        lambda files: np.array([str(file) for file in files]),
        lambda files: pandas.Series([str(file) for file in files]),
        lambda files: [Image.open(file) for file in files],
        lambda files: [np.asarray(Image.open(file)) for file in files],
        lambda files: [files[0], Image.open(files[1]), *map(str, files[2:])],
        lambda files: np.stack([np.asarray(Image.open(file)) for file in files]),
    ],
    ids=["texts", "array of texts", "series", "Pillow", "list of pixels", "mixed", "pixels"],
)
def test_files_pictures_and_pixels_give_the_same(run, photos, given):
    files = photos[0][:3]
    np.testing.assert_array_equal(features_of(run, given(files)), features_of(run, files))


@pytest.mark.parametrize(
    ("mode", "format", "orientation"),
    [
        ("RGB", "PNG", 1),
        ("L", "PNG", 1),
        ("P", "PNG", 1),
        ("RGBA", "PNG", 1),
        ("I;16", "PNG", 1),
        ("CMYK", "JPEG", 1),
        ("RGB", "JPEG", 6),
        ("RGB", "TIFF", 6),
    ],
)
def test_what_pillow_has_open_becomes_what_its_file_does(run, tmp_path, mode, format, orientation):
    pixels = np.random.default_rng(0).integers(256, size=(9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray(pixels[..., 0]))
    elif mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    else:
        picture = picture.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "picture"
    picture.save(file, format, exif=exif)
    with Image.open(file) as opened:
        for _ in range(2):  # it is left as it is
            np.testing.assert_array_equal(features_of(run, [opened]), features_of(run, [file]))


def test_more_images_than_are_read_at_once_keep_their_order(run, pixels):
    numbers = np.arange(1100) % len(pixels)
    once = features_of(run, pixels)
    np.testing.assert_allclose(features_of(run, pixels[numbers]), once[numbers], atol=1e-6)


def test_the_layer_is_the_middle_one_a_given_one_or_the_best_of_the_probe(
    run, shapes_store, pixels, tmp_path
):
    given = ImageGPTFeatures(run, **CPU)
    assert given.fit(pixels).layer_ == 1
    assert given.set_params(layer=np.int64(2)).fit(pixels).layer_ == 2
    probed = shutil.copytree(run, tmp_path / "run")
    best = ImageGPTFeatures(probed, layer="best", **CPU)
    with pytest.raises(ConfigError, match="not been probed as it is now"):
        best.fit(pixels)
    with pytest.raises(ConfigError, match="not been probed as it is now"):
        clone(best).set_params(model=probed / "model").fit(pixels)
    result = probe_run(probed, data=shapes_store.path, device="cpu")
    assert best.fit(pixels).layer_ == result.best_layer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": 3}, "layer must lie between 0 and 2"),
        ({"layer": "last"}, "a layer is a number, 'best', or None for the middle, got 'last'"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"device": "tpu"}, "no device 'tpu' here"),
    ],
)
def test_settings_that_cannot_be_are_refused_when_fitted(run, pixels, settings, message):
    transformer = ImageGPTFeatures(run, **CPU).set_params(**settings)
    with pytest.raises(ConfigError, match=message):
        transformer.fit(pixels)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 48)), r"got float64 of shape \(3, 48\), rows of numbers that no longer tell"),
        (np.zeros((3, 4, 4)), r"got float64 of shape \(3, 4, 4\)"),
        (np.zeros((3, 4, 4, 3)), r"uint8 \(image, height, width, 3\), got float64"),
        (np.zeros((3, 3, 4, 4), np.uint8), r"got uint8 of shape \(3, 3, 4, 4\)"),
        (pandas.DataFrame({"file": ["a.png"]}), r"got .* of shape \(1, 1\)"),
        ("a.png", "a list of images is wanted, got one, 'a.png'"),
        ([[0.0] * 48], "image 0 is a list"),
        ([np.zeros((4, 4, 3))], r"image 0 should be uint8 .* got float64 of shape \(4, 4, 3\)"),
        (["nowhere.png"], "nowhere.png"),
    ],
)
def test_what_are_no_images_is_refused(run, pixels, images, message):
    transformer = ImageGPTFeatures(run, **CPU).fit(pixels)
    with pytest.raises(DataError, match=message):
        transformer.transform(images)


def test_it_goes_into_pipelines_grids_and_cross_validation(run, photos):
    files, labels = photos
    pipeline = make_pipeline(ImageGPTFeatures(run, **CPU), LinearProbe())
    assert pipeline.fit(files, labels).predict(files[:1]).tolist() == labels[:1]
    assert cross_val_score(pipeline, files, labels, cv=2).shape == (2,)
    grid = GridSearchCV(pipeline, {"imagegptfeatures__layer": [0, 2]}, cv=2).fit(files, labels)
    assert grid.best_params_["imagegptfeatures__layer"] in (0, 2)


def test_features_have_names_and_may_come_as_a_frame(run, photos):
    files = pandas.Series(map(str, photos[0][:2]), index=["one", "two"])
    frame = ImageGPTFeatures(run, **CPU).set_output(transform="pandas").fit_transform(files)
    assert frame.index.tolist() == ["one", "two"]
    assert frame.columns.tolist() == [f"imagegptfeatures{number}" for number in range(16)]


def test_nothing_is_transformed_before_it_is_fitted(run, pixels):
    with pytest.raises(NotFittedError):
        ImageGPTFeatures(run).transform(pixels)


def test_copies_and_pickles_go_without_the_network_and_load_it_when_they_need_it(run, pixels):
    fitted = ImageGPTFeatures(run, layer=2, **CPU).fit(pixels)
    pickled = pickle.dumps(fitted)
    assert len(pickled) < 1000
    assert not hasattr(clone(fitted), "pretrained_")
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.transform(pixels), fitted.transform(pixels))


def test_features_of_another_model_are_not_given_for_those_that_were_fitted(
    run, given, pixels, tmp_path
):
    model = shutil.copytree(run / "model", tmp_path / "model")
    pickled = pickle.dumps(ImageGPTFeatures(model, **CPU).fit(pixels))
    shutil.rmtree(model)
    recipe = with_training(SHAPES_RECIPE, steps=4)
    shutil.copytree(pretrain(recipe, out=tmp_path / "other", **given).path / "model", model)
    with pytest.raises(CheckpointError, match="holds another model than this transformer"):
        pickle.loads(pickled).transform(pixels)


# The checks of scikit-learn that need no table of numbers; `check_estimator` leaves out all but one
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.parametrize("check", CHECKS)
def test_scikit_learn_finds_nothing_wrong(run, check):
    getattr(estimator_checks, check)("ImageGPTFeatures", ImageGPTFeatures(run))


def test_scikit_learn_finds_nothing_wrong_with_any_setting_outside_of_tests():
    """Where the types of arguments are not checked."""
    code = (
        "from sklearn.utils.estimator_checks import *\n"
        "from igpt import ImageGPTFeatures, LinearProbe\n"
        "for estimator in (ImageGPTFeatures(), LinearProbe()):\n"
        "    name = type(estimator).__name__\n"
        "    check_do_not_raise_errors_in_init_or_set_params(name, estimator)"
    )
    assert run_program(code) == ""
