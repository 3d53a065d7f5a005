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
    from igpt.data.records import Records as Records
    from igpt.data.records import RecordStore as RecordStore
    from igpt.data.records import prepare_store as prepare_store
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
    from igpt.evaluation.linear_probe import LinearProbe as LinearProbe
    from igpt.experiments.claims.reproduce import CLAIMS as CLAIMS
    from igpt.experiments.claims.reproduce import reproduce as reproduce
    from igpt.experiments.finetune import finetune as finetune
    from igpt.experiments.pretrain import pretrain as pretrain
    from igpt.experiments.probe import probe_run as probe_run
    from igpt.experiments.publish import push as push
    from igpt.experiments.recipes import RECIPES as RECIPES
    from igpt.experiments.recipes import Recipe as Recipe
    from igpt.experiments.report import write_report as write_report
    from igpt.experiments.search import search_finetuning as search_finetuning
    from igpt.experiments.search import search_pretraining as search_pretraining
    from igpt.model.config import SIZES as SIZES
    from igpt.model.config import ModelConfig as ModelConfig
    from igpt.model.conversion import convert as convert
    from igpt.model.loading import load as load
    from igpt.model.pretrained import Pretrained as Pretrained
    from igpt.model.sampling import SamplingConfig as SamplingConfig
    from igpt.model.transformer import ImageGPT as ImageGPT
    from igpt.pixels.fit import fit_palette as fit_palette
    from igpt.pixels.palette import Palette as Palette
    from igpt.pixels.tokenizer import ImageTokenizer as ImageTokenizer
    from igpt.training.config import TrainingConfig as TrainingConfig

__version__ = "0.1.0"

_PLACES = {
    "CLAIMS": "igpt.experiments.claims.reproduce",
    "RECIPES": "igpt.experiments.recipes",
    "SIZES": "igpt.model.config",
    "IgptError": "igpt.errors",
    "ImageGPT": "igpt.model.transformer",
    "ImageTokenizer": "igpt.pixels.tokenizer",
    "LinearProbe": "igpt.evaluation.linear_probe",
    "ModelConfig": "igpt.model.config",
    "Palette": "igpt.pixels.palette",
    "Pretrained": "igpt.model.pretrained",
    "Recipe": "igpt.experiments.recipes",
    "RecordStore": "igpt.data.records",
    "Records": "igpt.data.records",
    "SamplingConfig": "igpt.model.sampling",
    "TrainingConfig": "igpt.training.config",
    "complete_images": "igpt.evaluation.completion",
    "convert": "igpt.model.conversion",
    "evaluate": "igpt.evaluation.likelihood",
    "extract_features": "igpt.evaluation.features",
    "finetune": "igpt.experiments.finetune",
    "fit_palette": "igpt.pixels.fit",
    "image_losses": "igpt.evaluation.likelihood",
    "load": "igpt.model.loading",
    "next_pixel_distribution": "igpt.evaluation.likelihood",
    "pixel_losses": "igpt.evaluation.likelihood",
    "predict": "igpt.evaluation.classifier",
    "prepare_store": "igpt.data.records",
    "pretrain": "igpt.experiments.pretrain",
    "probe_run": "igpt.experiments.probe",
    "push": "igpt.experiments.publish",
    "reproduce": "igpt.experiments.claims.reproduce",
    "sample_images": "igpt.evaluation.completion",
    "search_finetuning": "igpt.experiments.search",
    "search_pretraining": "igpt.experiments.search",
    "surprise_maps": "igpt.evaluation.likelihood",
    "write_report": "igpt.experiments.report",
}
__all__ = sorted([*_PLACES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'igpt' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
