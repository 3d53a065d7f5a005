"""How loss falls with compute: several sizes at equal operations, at several budgets, and a fit.

    python -m benchmarks.scaling --data STORE --palette PALETTE --out scaling --list
    python -m benchmarks.scaling --data STORE --palette PALETTE --out scaling --share 1/2
    python -m benchmarks.scaling --data STORE --palette PALETTE --out scaling --table

Networks of a ladder of sizes are trained at each budget, by the paper's recipe at 12x12 pixels; a
further size is added as long as the best is the smallest or the largest. Learning rates fall with
the square root of the width; with `--rates 0.5 1 2` each network is trained at all and the best
counts. Losses are those of validation images. `benchmarks/isoflop.py` fits those near each budget's
best; a training that diverged is left out.

What is finished stays, so that the same command goes on where it was stopped. Several processes may
share the trainings; further sizes are added by a call without a share, which puts them together.
OUT/scaling.json, OUT/scaling.md and, once there is a fit, OUT/scaling.png show what there is.
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.isoflop import IsoflopFit, Point, fit_isoflops
from benchmarks.race import BASE
from benchmarks.scaling_plot import scaling_figure
from benchmarks.trials import Trials, share_of, training_flops, with_seed
from igpt.errors import ConfigError, IgptError
from igpt.files import write_json, written_aside
from igpt.processes import choose_device
from igpt.runs.provenance import provenance
from igpt.runs.recipes import Recipe, find_recipe
from igpt.settings import with_settings
from igpt.values import to_dict

LADDER = (
    (1, 16), (1, 24), (2, 24), (2, 32), (2, 48), (3, 56), (3, 72), (4, 88), (4, 112), (5, 136),
    (6, 168), (7, 208), (8, 256),
)  # fmt: skip
"""Layers and widths, each network with 1.3 to 1.9 times the weights of the one before."""
BUDGETS = (1.5e12, 4.5e12, 1.35e13, 4.05e13)
"""Operations of a training; two hours of one core in all."""
SIZES = 5
"""At a budget, before further ones; those of the next budget begin one higher. They have
1,400 tokens a weight to 29 at the first, and 2,800 to 31 at the last."""
NEAR = 2
"""Sizes on either side of the best that a budget's parabola is fitted to: it is one only there."""
RATE, AT_WIDTH = 0.005, 96
"""The learning rate of networks of this width."""
SPEED = 4.5e10
TEXT = 20
"""Tokens a weight that are best for text (Hoffmann et al. 2022)."""
GPU_HOUR = 3600 * 0.38 * 989e12
"""Operations in an hour of an H100 at the use that iGPT-S made of one."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """All that decides a study."""

    trials: Trials
    base: Recipe
    budgets: tuple[float, ...]
    ladder: tuple[tuple[int, int], ...] = LADDER
    sizes: int = SIZES
    rates: tuple[float, ...] = (1.0,)
    """Factors of the usual learning rate to try."""
    images: int = 5000
    """Of validation, that losses are of, at most."""
    seed: int = 0

    def recipe(self, flops: float, size: int, factor: float) -> Recipe:
        """Return the recipe of a budget and a size, a number in the ladder."""
        layers, width = self.ladder[size]
        shape = dataclasses.replace(self.base.model, layers=layers, width=width)
        known = self.trials.recipe(dataclasses.replace(self.base, model=shape))
        once = training_flops(known) / known.training.steps
        steps = max(1, round(flops / once))
        training = dataclasses.replace(
            known.training, steps=steps, warmup_steps=steps // 20, validate_every=steps,
            validation_images=self.images, checkpoint_every=max(1, steps // 4),
            learning_rate=factor * RATE * (AT_WIDTH / width) ** 0.5,
        )  # fmt: skip
        return with_seed(dataclasses.replace(known, training=training), self.seed)

    def name(self, flops: float, size: int, factor: float) -> str:
        """Return what a training is called."""
        layers, width = self.ladder[size]
        rate = f"-rate-{factor:g}" if factor != 1 else ""
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{flops:.3g}-{layers}x{width}{rate}{seed}"

    def sizes_at(self, flops: float) -> range:
        """Return the sizes at a budget, before further ones."""
        first = max(0, min(self.budgets.index(flops), len(self.ladder) - self.sizes))
        return range(first, min(first + self.sizes, len(self.ladder)))

    def next_size(self, flops: float, losses: dict[int, float]) -> int | None:
        """Return the size to train next at a budget; None if there is nothing more to do."""
        if untried := [size for size in self.sizes_at(flops) if size not in losses]:
            return untried[0]
        best = min(losses, key=lambda size: losses[size])
        beside = {min(losses): min(losses) - 1, max(losses): max(losses) + 1}.get(best)
        return beside if beside is not None and 0 <= beside < len(self.ladder) else None

    def losses(self, flops: float, *, train: bool) -> dict[int, float]:
        """Return the losses by size at a budget: all, trained as need be, or those there are."""
        losses: dict[int, float] = {}
        while (size := self.next_size(flops, losses)) is not None:
            loss = self.loss(flops, size, train=train)
            if loss is None:
                break
            losses[size] = loss
        return losses

    def loss(self, flops: float, size: int, *, train: bool) -> float | None:
        """Return the loss of a size at a budget, at the best rate; None if it is not there yet."""
        runs = {
            self.name(flops, size, factor): self.recipe(flops, size, factor)
            for factor in self.rates
        }
        if not train and not all(self.trials.is_done(name) for name in runs):
            return None
        return min(self.trials.validation_loss(*run) for run in runs.items())

    def points(self) -> list[Point]:
        """Return what there is of whole budgets, near the best size of each."""
        points = []
        for flops in self.budgets:
            losses = self.losses(flops, train=False)
            if self.next_size(flops, losses) is None:
                best = min(losses, key=lambda size: losses[size])
                points += [
                    self.point(flops, size, loss)
                    for size, loss in sorted(losses.items())
                    if abs(size - best) <= NEAR and math.isfinite(loss)
                ]
        return points

    def point(self, flops: float, size: int, loss: float) -> Point:
        """Return a training of a budget and a size as what came of it."""
        recipe = self.recipe(flops, size, 1.0)
        model, training = recipe.model, recipe.training
        return Point(
            flops=flops,
            weights=model.layers * 12 * model.width**2 + model.colors * model.width,
            tokens=float(training.steps * training.batch_size * model.positions),
            loss=loss,
        )

    def listed(self, *, speed: float) -> str:
        """Return what is to be trained and about how long that takes."""
        images, lines, total = len(self.trials.store.split("train")), [], 0.0
        for flops in self.budgets:
            for size in self.sizes_at(flops):
                recipe = self.recipe(flops, size, 1.0)
                point, training = self.point(flops, size, math.nan), recipe.training
                seconds = len(self.rates) * training_flops(recipe) / speed
                total += seconds
                lines.append(
                    f"{flops:8.2e} operations  {point.weights:9,} weights  {training.steps:7,} "
                    f"steps  {training.steps * training.batch_size / images:5.1f} passes  "
                    f"{point.tokens / point.weights:7.0f} tokens a weight  {seconds / 60:5.1f} min"
                )
        lines.append(f"{total / 60:.0f} minutes of one core, further sizes on top")
        return "\n".join(lines)

    def write(self) -> str:
        """Fit what there is, write it down and return it in words."""
        points = self.points()
        text = losses_table(points)
        try:
            fit = fit_isoflops(points)
        except ConfigError as error:
            fit, text = None, f"{text}\n\nNo fit yet: {error}"
        else:
            images = len(self.trials.store.split("train"))
            text = f"{text}\n\n{described(fit, images=images)}"
            with written_aside(self.trials.out / "scaling.png") as aside:
                scaling_figure(points, fit, ahead=GPU_HOUR).savefig(aside, format="png", dpi=150)
        values = {
            "points": to_dict(points), "base": to_dict(self.base), "rates": list(self.rates),
            "fit": None if fit is None else plain(fit),
            "at_one_gpu_hour": None if fit is None else to_dict(fit.at(GPU_HOUR)),
            "made": to_dict(provenance(choose_device(self.trials.device))),
        }  # fmt: skip
        write_json(self.trials.out / "scaling.json", values)
        with written_aside(self.trials.out / "scaling.md") as aside:
            aside.write_text(text + "\n")
        return text


def plain(fit: IsoflopFit) -> dict[str, object]:
    """Return a fit as JSON has it, without the bootstrap's own fits."""
    values = to_dict(fit)
    del values["lines"], values["losses"]
    return values


def losses_table(points: Sequence[Point]) -> str:
    """Return losses as a table of Markdown."""
    return "\n".join(
        (
            "| operations | weights | tokens | nats per pixel |",
            "| --- | --- | --- | --- |",
            *(
                f"| {p.flops:.3g} | {p.weights:,} | {p.tokens:.3g} | {p.loss:.4f} |"
                for p in sorted(points, key=lambda point: (point.flops, point.weights))
            ),
        )
    )


def described(fit: IsoflopFit, *, images: int) -> str:
    """Return a fit as a table and sentences of Markdown."""
    lines = [
        "| operations | best weights | best tokens | tokens a weight | nats per pixel |",
        "| --- | --- | --- | --- | --- |",
    ]
    hour = fit.at(GPU_HOUR)
    for best in (*fit.optima, hour):
        where = f"{best.flops:.3g}" + (" (one GPU-hour)" if best is hour else "")
        where += "" if best.inside or best is hour else " (beyond the sizes)"
        cells = (
            where,
            best.weights.text("{:.3g}"),
            best.tokens.text("{:.3g}"),
            best.tokens_per_weight.text("{:.0f}"),
            best.loss.text("{:.4f}"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    last = fit.optima[-1].tokens_per_weight
    lines.append(
        "\nThe best number of weights (of blocks and color head) grows as the operations to the "
        f"power {fit.exponent.text('{:.2f}')}. At the largest budget {last.text('{:.0f}')} tokens "
        f"a weight are best; for text it is {TEXT}, and for pixels arXiv 2511.08704 has 10 to 20 "
        f"times that. Losses lie {fit.residual:.4f} nats about the parabolas; {fit.usable:.0%} of "
        "the bootstrap's fits have a lowest point, and intervals are of those. The "
        "row of one GPU-hour is what would be best if all went on so, and if images were never "
        f"seen twice: there are {images:,}."
    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--palette", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("scaling"))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--budgets", type=float, nargs="*", default=list(BUDGETS))
    parser.add_argument("--sizes", type=int, default=SIZES)
    parser.add_argument("--rates", type=float, nargs="*", default=[1.0], help="factors to try")
    parser.add_argument("--images", type=int, default=5000, help="of validation, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="1/1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true", help="of what there is, and no more")
    parser.add_argument("--speed", type=float, default=SPEED, help="operations a second")
    asked = parser.parse_args()
    try:
        study = Study(
            trials=Trials(
                data=asked.data, palette=asked.palette, out=asked.out, device=asked.device
            ),
            base=with_settings(find_recipe("cifar10-tiny"), [*BASE, *asked.settings]),
            budgets=tuple(sorted(asked.budgets)), sizes=asked.sizes, rates=tuple(asked.rates),
            images=asked.images, seed=asked.seed,
        )  # fmt: skip
        asked.out.mkdir(parents=True, exist_ok=True)
        if asked.list:
            print(study.listed(speed=asked.speed))
            return
        if not asked.table:
            share, shares = share_of(asked.share)
            # The largest budgets first, so that shares end at about the same time.
            budgets = study.budgets[::-1]
            runs = [(flops, size) for flops in budgets for size in study.sizes_at(flops)]
            for flops, size in runs[share - 1 :: shares]:
                study.loss(flops, size, train=True)
            for flops in budgets if shares == 1 else ():
                study.losses(flops, train=True)
        print(study.write())
    except IgptError as error:
        sys.exit(f"scaling: {error}")


if __name__ == "__main__":
    main()
