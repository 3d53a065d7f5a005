"""The released network once more: its formulas in float64 NumPy, over its own variables.

Written from the description (docs/method.md; openai/image-gpt, src/model.py), one image and one
head at a time, sharing no line with `igpt.model`. Tests and the parity table hold igpt to it.
"""

import numpy as np

Variables = dict[str, np.ndarray]


def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """x / sqrt(mean(x²) + 1e-5) * gain."""
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-5) * gain


def attention(x: np.ndarray, variables: Variables, place: str, *, causal: bool) -> np.ndarray:
    """Mix positions by softmax(q k / sqrt(head width)) v, head by head, query by query."""
    query, key, value, output = (
        variables[f"{place}/{name}_proj"].astype(np.float64) for name in "qkvc"
    )
    mixed = np.zeros_like(x)
    for head in range(len(query)):
        q, k, v = (np.einsum("sf,ef->se", x, part[head]) for part in (query, key, value))
        seen = np.zeros_like(q)
        for position in range(len(x)):
            end = position + 1 if causal else len(x)
            scores = k[:end] @ q[position] / np.sqrt(q.shape[1])
            weights = np.exp(scores - scores.max())
            seen[position] = weights / weights.sum() @ v[:end]
        mixed += np.einsum("se,ef->sf", seen, output[head])
    return mixed


def released_network(
    variables: Variables, tokens: np.ndarray, hidden: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return n^0 ... n^L (layer, batch, position, width) and the logits (batch, position, color).

    Args:
        variables: By their names in the released checkpoints; without `model/sos` it is BERT's.
        tokens: (batch, position).
        hidden: For BERT, which pixels' content is zero, (batch, position).
    """
    v = {name.removeprefix("model/"): value.astype(np.float64) for name, value in variables.items()}
    layers = sum(name.endswith("ln_1/g") for name in v)
    states, logits = [], []
    for number, image in enumerate(tokens):
        content = v["wte"][image]
        if "sos" in v:
            content = np.concatenate([v["sos"][None], content[:-1]])
        if hidden is not None:
            content = np.where(hidden[number][:, None], 0, content)
        h = content + v["wpe"][: len(image)]
        of_image = []
        for layer in range(layers):
            of_image.append(norm(h, v[f"h{layer}/ln_1/g"]))
            h = h + attention(of_image[-1], v, f"h{layer}/attn", causal="sos" in v)
            inner = norm(h, v[f"h{layer}/ln_2/g"]) @ v[f"h{layer}/mlp/c_fc/w"]
            inner = inner / (1 + np.exp(-1.702 * inner))
            h = h + inner @ v[f"h{layer}/mlp/c_proj/w"]
        of_image.append(norm(h, v["ln_f/g"]))
        states.append(of_image)
        logits.append(of_image[-1] @ v["wtet"].T)
    return np.array(states).transpose(1, 0, 2, 3), np.array(logits)
