"""A race of recipes: which idea makes a small network learn more from the same work.

    python -m benchmarks.race --data STORE --palette PALETTE --out race --list
    python -m benchmarks.race --data STORE --palette PALETTE --out race --share 1/2
    python -m benchmarks.race --data STORE --palette PALETTE --out race --time
    python -m benchmarks.race --data STORE --palette PALETTE --out race --seeds 6 --entries muon
    python -m benchmarks.race --data STORE --palette PALETTE --out race --held-out test \\
        --entries muon+linear

An entry is the paper's recipe at a small scale with one setting changed, or a few that belong
together; entries joined by `+` are stacked. All take the same operations by igpt's own count, which
has those of Muon's updates but not Adam's (`benchmarks.trials.training_flops`), and, seed for seed,
the same images in the same order. Each has its learning rate searched in the same way on a seed
that counts for nothing else: three rates, and a further one as long as the best is at an edge. Then
it is trained with the other seeds and measured on validation images: nats per pixel, and the best
layer's probe. Verdicts are on the differences from the paper's recipe, seed by seed, by the rule of
the claims (`igpt.claims.verdict`), for nats and for probes each corrected for how many entries
there are. With three seeds only large gains can be told; entries that the search has ahead get more
by a second call. What is chosen so is then measured on test images, once.

The same operations are not the same time. `--time` measures a step of each, entries in turn on one
batch; the table has it as a ratio to the paper's. With `--equal time`, after that, an entry is
trained for as many steps fewer as its steps are slower, and the race is one of equal time.

What is finished stays, so that the same command goes on where it was stopped, and several processes
may share the entries. OUT/race.json and OUT/race.md hold what there is so far, whatever entries
were asked for last.
"""

import argparse
import dataclasses
import math
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.race_table import PAPER, Entered, Race, table, winners
from benchmarks.trials import (
    Measures,
    Trials,
    measuring_flops,
    share_of,
    training_flops,
    with_seed,
)
from igpt.data.batches import TokenBatches
from igpt.errors import ConfigError, IgptError, nearest_name
from igpt.files import read_json, write_json, written_aside
from igpt.model.transformer import ImageGPT, seed_weights
from igpt.objectives.autoregressive import autoregressive
from igpt.pixels.tokenizer import ImageTokenizer
from igpt.processes import choose_device
from igpt.runs.provenance import Provenance, provenance
from igpt.runs.recipes import Recipe, find_recipe
from igpt.settings import with_settings
from igpt.training.loop import StepDone, train
from igpt.training.optimizer import build_optimizer
from igpt.values import from_dict, to_dict

BASE = (
    "model.image_size=12", "model.layers=4", "model.width=96", "model.heads=4",
    "training.steps=1280", "training.batch_size=16", "training.warmup_steps=64",
    "training.validate_every=1280", "training.validation_images=1000",
    "training.checkpoint_every=320", "augmentation=none",
)  # fmt: skip
"""What makes `cifar10-tiny` the paper's recipe at the race's scale: Adam, a cosine, no frills."""

ENTRIES: dict[str, tuple[str, ...]] = {
    PAPER: (),
    "muon": ("training.optimizer=muon",),
    "normuon": ("training.optimizer=normuon",),
    "linear": ("training.schedule=linear",),
    "stable": ("training.schedule=linear", "training.stable=0.6"),
    "query-key-norm": ("model.query_key_norm=true",),
    "squared-relu": ("model.activation=squared-relu",),
    "zero-outputs": ("model.initialization=zero-outputs",),
    "rows-and-columns": ("model.rows_and_columns=true",),
    "values": ("model.value_embedding=true",),
    "capped": ("model.logit_cap=15.0",),
    "averaging": ("training.averaging=0.1",),
    "flips": ("augmentation=flip",),
    "shifts": ("augmentation=reflect-crop-flip",),
    "weight-decay": ("training.weight_decay=0.1",),
    "clipped": ("training.max_gradient_norm=1.0",),
    "beta2": ("training.beta2=0.99",),
    "dropout": ("dropout=0.1",),
    "large-batch": ("training.batch_size=32",),
    "tied": ("model.tied=true", "model.zero_heads=false"),
}
"""What is changed, by the entry's name."""

FIRST = (
    PAPER, "muon", "linear", "query-key-norm", "squared-relu", "zero-outputs", "rows-and-columns",
    "values", "capped", "averaging", "shifts",
)  # fmt: skip
"""The entries that are raced by default."""

RATES = (0.002, 0.004, 0.008)
FACTOR = 2.0
"""Between a rate and the next."""
SEARCH_SEED = 0
SPEED = 4.5e10
"""Operations a second of one core that minutes are reckoned by, where no step was timed."""


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What `steps.json` holds."""

    seconds_per_step: dict[str, float]
    """Medians, by entry; of those timed later, as if they had been timed with the first."""
    made: Provenance


def next_rate(losses: Mapping[float, float], *, left: int, factor: float = FACTOR) -> float | None:
    """Return the rate to try beside those tried; None if the best has one on either side.

    Args:
        losses: By rate; infinite where training diverged.
        left: How many more may be tried.
        factor: Between one and the next.
    """
    if left <= 0:
        return None
    rates = sorted(losses)
    best = min(rates, key=lambda rate: losses[rate])
    if math.isinf(losses[best]) or best == rates[0]:
        return float(f"{rates[0] / factor:.6g}")
    return float(f"{rates[-1] * factor:.6g}") if best == rates[-1] else None


def search(
    loss_at: Callable[[float], float | None], rates: Sequence[float], *, extensions: int
) -> tuple[dict[float, float], float | None]:
    """Return the losses at some rates, and at further ones while the best is at an edge.

    The best rate is returned with them; None if some loss, which `loss_at` has not, is missing.
    """
    losses: dict[float, float] = {}
    untried = list(rates)
    while untried:
        rate = untried.pop(0)
        loss = loss_at(rate)
        if loss is None:
            return losses, None
        losses[rate] = loss
        further = next_rate(losses, left=len(rates) + extensions - len(losses))
        if not untried and further is not None:
            untried.append(further)
    return losses, min(losses, key=lambda rate: losses[rate])


def settings_of(entry: str) -> tuple[str, ...]:
    """Return what an entry changes; of some joined by `+`, all that they change.

    Raises:
        ConfigError: There is no such entry.
    """
    names = entry.split("+")
    for name in names:
        if name not in ENTRIES:
            raise ConfigError(f"there is no entry {name!r}{nearest_name(name, ENTRIES)}")
    return tuple(setting for name in names for setting in ENTRIES[name])


@dataclass(frozen=True, kw_only=True)
class Course:
    """All that decides a race."""

    trials: Trials
    base: Recipe
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    extensions: int
    measures: Measures
    equal: str

    def recipe(self, entry: str, *, rate: float, seed: int) -> Recipe:
        """Return an entry's recipe at a rate.

        Raises:
            ConfigError: There is no such entry, or a race of equal time before steps were timed.
        """
        recipe = with_settings(self.base, settings_of(entry))
        training = dataclasses.replace(recipe.training, learning_rate=rate, steps=self.steps(entry))
        training = dataclasses.replace(training, validate_every=training.steps)
        return with_seed(dataclasses.replace(recipe, training=training), seed)

    def steps(self, entry: str) -> int:
        """Return how many steps an entry takes."""
        shape = with_settings(self.base, settings_of(entry))
        shape, base = (self.trials.recipe(one) for one in (shape, self.base))
        if self.equal == "operations":
            return round(shape.training.steps * training_flops(base) / training_flops(shape))
        seconds = self.seconds_per_step()
        if not {entry, PAPER} <= seconds.keys():
            raise ConfigError(f"a step of {entry} was not timed; call with --time first")
        return round(base.training.steps * seconds[PAPER] / seconds[entry])

    def seconds_per_step(self) -> dict[str, float]:
        """Return what a step takes, by entry, as far as it was timed."""
        file = self.trials.out / "steps.json"
        return from_dict(Timed, read_json(file)).seconds_per_step if file.is_file() else {}

    def name(self, entry: str, recipe: Recipe) -> str:
        """Return what a training is called."""
        training = recipe.training
        equal = "" if self.equal == "operations" else f"-steps-{training.steps}"
        return f"{entry}{equal}-rate-{training.learning_rate:g}-seed{training.seed}"

    def run(self, entry: str) -> None:
        """Search the rate of an entry, train it with every seed and measure it."""

        def loss_at(rate: float) -> float:
            recipe = self.recipe(entry, rate=rate, seed=SEARCH_SEED)
            return self.trials.validation_loss(self.name(entry, recipe), recipe)

        _, best = search(loss_at, self.rates, extensions=self.extensions)
        assert best is not None, "every rate has a loss"
        for seed in self.seeds:
            recipe = self.recipe(entry, rate=best, seed=seed)
            self.trials.outcome(self.name(entry, recipe), recipe, self.measures)

    def entered(self, entry: str) -> Entered:
        """Return what there is of an entry; nothing is trained for that."""

        def loss_at(rate: float) -> float | None:
            recipe = self.recipe(entry, rate=rate, seed=SEARCH_SEED)
            name = self.name(entry, recipe)
            return self.trials.validation_loss(name, recipe) if self.trials.is_done(name) else None

        losses, best = search(loss_at, self.rates, extensions=self.extensions)
        outcomes = {}
        for seed in self.seeds if best is not None else ():
            recipe = self.recipe(entry, rate=best, seed=seed)
            known = self.trials.kept(self.name(entry, recipe), recipe, self.measures)
            if known is not None:
                outcomes[str(seed)] = known
        recipe = self.trials.recipe(self.recipe(entry, rate=self.rates[0], seed=SEARCH_SEED))
        return Entered(
            name=entry,
            settings=settings_of(entry),
            learning_rate=best,
            rates={f"{r:g}": None if math.isinf(x) else x for r, x in sorted(losses.items())},
            steps=recipe.training.steps,
            flops=training_flops(recipe),
            seconds_per_step=self.seconds_per_step().get(entry),
            outcomes=outcomes,
        )

    def known(self) -> list[str]:
        """Return the entries that something was trained of, where entries are to be chosen."""
        if self.measures.held_out == "test":
            return []
        pattern = r"(.+?)(-steps-\d+)?-rate-.*"
        runs = sorted(run.name for run in self.trials.out.glob("runs/*"))
        found = [match for run in runs if (match := re.fullmatch(pattern, run))]
        of_time = self.equal == "time"
        return list(dict.fromkeys(m[1] for m in found if (m[2] is not None) == of_time))

    def result(self, entries: Sequence[str]) -> Race:
        """Return what there is of the race: of these entries, and of those known already."""
        return Race(
            equal=self.equal,
            entries=tuple(self.entered(one) for one in dict.fromkeys([*entries, *self.known()])),
            measures=self.measures,
            base=self.base,
            made=provenance(choose_device(self.trials.device)),
        )

    def write(self, entries: Sequence[str]) -> str:
        """Write `race.json` and `race.md`, or `race-time-test.json` and so on; return the table."""
        race = self.result(entries)
        name = "race" if self.equal == "operations" else "race-time"
        name += "-test" if self.measures.held_out == "test" else ""
        write_json(self.trials.out / f"{name}.json", to_dict(race))
        text = table(race)
        with written_aside(self.trials.out / f"{name}.md") as aside:
            aside.write_text(text + "\n")
        return text

    def time(self, entries: Sequence[str], *, rounds: int) -> None:
        """Time a step of each entry, in turn, and keep the medians.

        One thread on a processor is timed by its own clock, which stands while others work. What
        was timed before stays, since it says how many steps are of equal time.
        """
        before = self.seconds_per_step()
        entries = [PAPER, *(entry for entry in entries if entry not in before and entry != PAPER)]
        device = choose_device(self.trials.device)
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.process_time if alone else time.perf_counter
        steps = {entry: self._steps(entry, device, count=rounds + 1) for entry in entries}
        times: dict[str, list[float]] = {entry: [] for entry in entries}
        for turn in range(rounds + 1):
            for entry, stepping in steps.items():
                began = clock()
                next(stepping)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)  # for the update, too
                if turn:  # the first makes what the others find made
                    times[entry].append(clock() - began)
        medians = {entry: statistics.median(found) for entry, found in times.items()}
        scale = before[PAPER] / medians[PAPER] if before else 1.0
        later = {entry: scale * median for entry, median in medians.items()} | before
        known = Timed(seconds_per_step=later, made=provenance(device))
        write_json(self.trials.out / "steps.json", to_dict(known))

    def _steps(self, entry: str, device: torch.device, *, count: int) -> Iterator[StepDone]:
        recipe = self.trials.recipe(with_settings(self.base, settings_of(entry)))
        seed_weights(recipe.training.seed)
        model = ImageGPT(recipe.model).to(device)
        model.set_dropout(recipe.dropout)
        batches = TokenBatches(
            self.trials.store.split("train"),
            ImageTokenizer(self.trials.colors, recipe.model.image_size, order=recipe.model.order),
            batch_size=recipe.training.batch_size, seed=recipe.training.seed,
            augmentation=recipe.augmentation,
        )  # fmt: skip
        return train(
            model, build_optimizer(model, recipe.training), objective=autoregressive,
            batch_at=batches.at,
            config=dataclasses.replace(recipe.training, steps=max(count, recipe.training.steps)),
        )  # fmt: skip

    def listed(self, entries: Sequence[str], *, speed: float) -> str:
        """Return what each entry changes, and the minutes that it takes."""
        lines, total = [], 0.0
        runs = len(self.rates) + len(self.seeds)
        for entry in entries:
            entered = self.entered(entry)
            recipe = self.trials.recipe(self.recipe(entry, rate=self.rates[0], seed=0))
            seconds = entered.flops / speed
            if entered.seconds_per_step:
                seconds = entered.steps * entered.seconds_per_step
            measuring = measuring_flops(recipe, self.measures) / speed
            minutes = (runs * seconds + len(self.seeds) * measuring) / 60
            total += minutes
            lines.append(
                f"{entry:24} {recipe.model.parameters / 1e6:5.2f}M weights "
                f"{entered.steps:6,} steps {minutes:6.1f} min  {' '.join(entered.settings)}"
            )
        lines.append(
            f"{'all':24} {total:6.1f} minutes of one core: {len(self.rates)} rates and "
            f"{len(self.seeds)} seeds each, further rates on top"
        )
        return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--palette", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("race"))
    parser.add_argument("--entries", nargs="*", default=list(FIRST), metavar="ENTRY")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="*", default=list(RATES))
    parser.add_argument("--extensions", type=int, default=3, help="further rates, at most")
    parser.add_argument("--images", type=int, default=5000, help="held out, at most")
    parser.add_argument("--learned", type=int, default=6000, help="that probes are fitted to")
    parser.add_argument("--held-out", choices=["validation", "test"], default="validation")
    parser.add_argument("--equal", choices=["operations", "time"], default="operations")
    parser.add_argument("--share", default="1/1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true", help="of what there is, and no more")
    parser.add_argument("--winners", action="store_true", help="what is better, as settings")
    parser.add_argument("--time", action="store_true", help="a step of each, in turn")
    parser.add_argument("--rounds", type=int, default=15, help="of --time")
    parser.add_argument("--speed", type=float, default=SPEED, help="operations a second")
    asked = parser.parse_args()
    names = [PAPER, *(name for name in asked.entries if name != PAPER)]
    measures = Measures(
        held_out=asked.held_out, likelihood=asked.images, learned=asked.learned,
        chosen=asked.learned // 3, tested=asked.learned // 2 or 1,
    )  # fmt: skip
    try:
        course = Course(
            trials=Trials(
                data=asked.data, palette=asked.palette, out=asked.out, device=asked.device
            ),
            base=with_settings(find_recipe("cifar10-tiny"), [*BASE, *asked.settings]),
            seeds=tuple(range(SEARCH_SEED + 1, SEARCH_SEED + 1 + asked.seeds)),
            rates=tuple(sorted(asked.rates)),
            extensions=asked.extensions,
            measures=measures,
            equal=asked.equal,
        )
        asked.out.mkdir(parents=True, exist_ok=True)
        if asked.list:
            print(course.listed(names, speed=asked.speed))
            return
        if asked.winners:
            print(winners(course.result(names)))
            return
        if asked.time:
            course.time(names, rounds=asked.rounds)
        elif not asked.table:
            share, shares = share_of(asked.share)
            for name in names[share - 1 :: shares]:
                course.run(name)
                course.write(names)
        print(course.write(names))
    except IgptError as error:
        sys.exit(f"race: {error}")


if __name__ == "__main__":
    main()
