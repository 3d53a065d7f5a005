"""Write the small TensorFlow checkpoints of tests/fixtures/tensorflow with TensorFlow itself.

    python -m venv tf && tf/bin/pip install tensorflow-cpu      # 2.21.0 wrote what is committed
    tf/bin/python scripts/make_tensorflow_fixture.py

TensorFlow is needed for this alone; neither igpt nor its tests import it. The variables have the
names and shapes of openai/image-gpt, src/model.py (its conv1d keeps `w` as [inputs, outputs]), for
4x4 images of 16 colors, width 8, 2 layers of 2 heads; they are spread over three devices, so that
the saver writes three shards. Beside each checkpoint lies what TensorFlow reads back from it.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parents[1] / "tests" / "fixtures" / "tensorflow"
POSITIONS, COLORS, WIDTH, LAYERS, HEADS, CLASSES, DEVICES = 16, 16, 8, 2, 2, 3, 3


def shapes(*, causal: bool, classes: bool) -> dict[str, tuple[int, ...]]:
    """Return the shape of every variable by its released name."""
    split = (HEADS, WIDTH // HEADS, WIDTH)
    found: dict[str, tuple[int, ...]] = {
        "model/wpe": (POSITIONS, WIDTH),
        "model/wte": (COLORS, WIDTH),
        "model/wtet": (COLORS, WIDTH),
    }
    if causal:
        found["model/sos"] = (WIDTH,)
    for layer in range(LAYERS):
        place = f"model/h{layer}"
        found[f"{place}/ln_1/g"] = found[f"{place}/ln_2/g"] = (WIDTH,)
        for projection in "qkvc":
            found[f"{place}/attn/{projection}_proj"] = split
        found[f"{place}/mlp/c_fc/w"] = (WIDTH, 4 * WIDTH)
        found[f"{place}/mlp/c_proj/w"] = (4 * WIDTH, WIDTH)
    found["model/ln_f/g"] = (WIDTH,)
    if classes:
        found["model/clf/wclf"] = (CLASSES, WIDTH)
    return found


def write(name: str, *, causal: bool, classes: bool, seed: int) -> None:
    """Write one checkpoint and, by TensorFlow's own reader, what is in it."""
    generator = np.random.default_rng(seed)
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default():
        for number, (variable, shape) in enumerate(shapes(causal=causal, classes=classes).items()):
            gain = variable.endswith("/g")
            value = generator.uniform(0.5, 1.5, shape) if gain else generator.normal(0, 0.4, shape)
            with tf.device(f"/cpu:{number % DEVICES}"):
                tf.compat.v1.get_variable(
                    variable, initializer=value.astype(np.float32), use_resource=False
                )
        with tf.device("/cpu:0"):
            tf.compat.v1.train.get_or_create_global_step()
        config = tf.compat.v1.ConfigProto(device_count={"CPU": DEVICES})
        with tf.compat.v1.Session(config=config) as session:
            session.run(tf.compat.v1.global_variables_initializer())
            saver = tf.compat.v1.train.Saver(sharded=True)
            saver.save(
                session, str(folder / "model.ckpt"), global_step=7, write_meta_graph=False,
                write_state=False,
            )  # fmt: skip
    reader = tf.train.load_checkpoint(str(folder / "model.ckpt-7"))
    names = sorted(reader.get_variable_to_shape_map())
    np.savez(folder / "expected.npz", **{name: reader.get_tensor(name) for name in names})


def main() -> None:
    """Write them all, and a palette."""
    write("ar", causal=True, classes=False, seed=0)
    write("bert", causal=False, classes=False, seed=1)
    write("ar-classes", causal=True, classes=True, seed=2)
    colors = np.random.default_rng(3).uniform(-1, 1, (COLORS, 3)).astype(np.float32)
    np.save(FOLDER / "kmeans_centers.npy", colors)


if __name__ == "__main__":
    main()
