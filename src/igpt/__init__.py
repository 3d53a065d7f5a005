"""igpt: generative pretraining from pixels.

    import igpt

    pretrained = igpt.load("runs/a")                # network and tokenizer together
    tokens = pretrained.tokenizer.encode(images)    # uint8 (batch, height, width, 3) -> int64
    logits = pretrained.model(tokens)               # (batch, position, color)
    images = pretrained.tokenizer.decode(tokens)

The public names are loaded when first used, so that `import igpt` costs nothing. Each command of
`igpt` is a thin caller of one of these functions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from igpt.claims.reproduce import CLAIMS as CLAIMS
    from igpt.claims.reproduce import reproduce as reproduce
    from igpt.data.prepare import prepare_store as prepare_store
    from igpt.data.store import Records as Records
    from igpt.data.store import RecordStore as RecordStore
    from igpt.data.store import StoreConfig as StoreConfig
    from igpt.errors import IgptError as IgptError
    from igpt.evaluation.classifier import predict as predict
    from igpt.evaluation.completion import complete_images as complete_images
    from igpt.evaluation.completion import sample_images as sample_images
    from igpt.evaluation.features import extract_features as extract_features
    from igpt.evaluation.likelihood import evaluate as evaluate
    from igpt.evaluation.likelihood import image_losses as image_losses
    from igpt.evaluation.likelihood import next_pixel_distribution as next_pixel_distribution
    from igpt.evaluation.likelihood import pixel_losses as pixel_losses
    from igpt.evaluation.likelihood import surprise_maps as surprise_maps
    from igpt.evaluation.logistic import LinearProbe as LinearProbe
    from igpt.formats.convert import convert as convert
    from igpt.formats.load import load as load
    from igpt.model.config import SIZES as SIZES
    from igpt.model.config import ModelConfig as ModelConfig
    from igpt.model.pretrained import Pretrained as Pretrained
    from igpt.model.sampling import SamplingConfig as SamplingConfig
    from igpt.model.transformer import ImageGPT as ImageGPT
    from igpt.pixels.palette import Palette as Palette
    from igpt.pixels.palette_fitting import fit_palette as fit_palette
    from igpt.pixels.tokenizer import ImageTokenizer as ImageTokenizer
    from igpt.report.page import write_report as write_report
    from igpt.report.publish import push as push
    from igpt.runs.finetune import finetune as finetune
    from igpt.runs.measure import probe_run as probe_run
    from igpt.runs.pretrain import pretrain as pretrain
    from igpt.runs.recipes import RECIPES as RECIPES
    from igpt.runs.recipes import Recipe as Recipe
    from igpt.runs.search import search_finetuning as search_finetuning
    from igpt.runs.search import search_pretraining as search_pretraining
    from igpt.training.config import TrainingConfig as TrainingConfig

__version__ = "0.1.0"

_PLACES = {
    "CLAIMS": "igpt.claims.reproduce",
    "RECIPES": "igpt.runs.recipes",
    "SIZES": "igpt.model.config",
    "IgptError": "igpt.errors",
    "ImageGPT": "igpt.model.transformer",
    "ImageTokenizer": "igpt.pixels.tokenizer",
    "LinearProbe": "igpt.evaluation.logistic",
    "ModelConfig": "igpt.model.config",
    "Palette": "igpt.pixels.palette",
    "Pretrained": "igpt.model.pretrained",
    "Recipe": "igpt.runs.recipes",
    "RecordStore": "igpt.data.store",
    "Records": "igpt.data.store",
    "SamplingConfig": "igpt.model.sampling",
    "StoreConfig": "igpt.data.store",
    "TrainingConfig": "igpt.training.config",
    "complete_images": "igpt.evaluation.completion",
    "convert": "igpt.formats.convert",
    "evaluate": "igpt.evaluation.likelihood",
    "extract_features": "igpt.evaluation.features",
    "finetune": "igpt.runs.finetune",
    "fit_palette": "igpt.pixels.palette_fitting",
    "image_losses": "igpt.evaluation.likelihood",
    "load": "igpt.formats.load",
    "next_pixel_distribution": "igpt.evaluation.likelihood",
    "pixel_losses": "igpt.evaluation.likelihood",
    "predict": "igpt.evaluation.classifier",
    "prepare_store": "igpt.data.prepare",
    "pretrain": "igpt.runs.pretrain",
    "probe_run": "igpt.runs.measure",
    "push": "igpt.report.publish",
    "reproduce": "igpt.claims.reproduce",
    "sample_images": "igpt.evaluation.completion",
    "search_finetuning": "igpt.runs.search",
    "search_pretraining": "igpt.runs.search",
    "surprise_maps": "igpt.evaluation.likelihood",
    "write_report": "igpt.report.page",
}
__all__ = sorted([*_PLACES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'igpt' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
