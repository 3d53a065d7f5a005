"""What a run makes of photographs: their classes, those that are like them, their features."""

from pathlib import Path

from igpt.commands.options import (
    MODEL,
    Count,
    Data,
    Device,
    Json,
    Layer,
    Layers,
    Overwrite,
    RunOrBuiltin,
    show,
)


def classify(
    run: RunOrBuiltin = MODEL, /, *images: Path, top: Count = 3, out: Path | None = None,
    overwrite: Overwrite = False, device: Device = "auto", as_json: Json = False,
) -> None:  # fmt: skip
    """Name the classes of IMAGES, by RUN's class head or the probe that igpt probe kept.

        igpt classify runs/a photo.jpg folder/ --top 2

    A file that cannot be read is said and left out, and the others go on.

    Args:
        images: Image files, and folders, zip or tar files of them.
        top: How many classes of each, the likeliest first.
        out: Also write a table, .csv: the probability of every class.
    """
    import dataclasses

    from igpt.runs.classify import classify_files

    result = classify_files(run, images, out=out, overwrite=overwrite, device=device)
    shown = [dataclasses.replace(image, ranking=image.ranking[:top]) for image in result.images]
    lines = [
        f"{image.file}: "
        + ", ".join(f"{one.class_name} {one.probability:.1%}" for one in image.ranking)
        for image in shown
    ]
    lines += [f"skipped: {file.reason}" for file in result.skipped]
    if result.skipped:
        lines.append(f"skipped {len(result.skipped)}, classified {len(shown)}")
    lines.append(result.classifier.text)
    if out is not None:
        lines.append(f"{out}: {len(result.images)} images")
    show(dataclasses.replace(result, images=tuple(shown)), as_json=as_json, text="\n".join(lines))


def similar(
    run: RunOrBuiltin = MODEL, /, *images: Path, among: Path, top: Count = 5, layer: Layer = None,
    out: Path | None = None, overwrite: Overwrite = False, device: Device = "auto",
    as_json: Json = False,
) -> None:  # fmt: skip
    """Find the images of a store that are most like IMAGES, by RUN's features.

        igpt similar runs/a photo.jpg --among data/photos --out similar.png

    Near is by the cosine between whitened features of one layer.

    Args:
        images: Image files, and folders, zip or tar files of them.
        among: Record store; all of its splits are searched.
        top: Neighbors of each.
        out: Also draw them, .png: a row a file, its neighbors from the nearest on.
    """
    from igpt.runs.similar import similar_files

    result = similar_files(
        run, images, among=among, count=top, layer=layer, out=out, overwrite=overwrite,
        device=device,
    )  # fmt: skip
    lines = []
    for query in result.queries:
        lines.append(query.file)
        for found in query.neighbors:
            of_class = "" if found.class_name is None else f"  {found.class_name}"
            lines.append(f"  {found.distance:.3f}{of_class}  {found.name} ({found.split})")
    lines += [f"skipped: {file.reason}" for file in result.skipped]
    lines.append(
        f"among {result.images} images, by layer {result.layer} ({result.layer_chosen}); distances "
        "are one minus the cosine"
    )
    if out is not None:
        lines.append(f"{out}: a row a file, and then its neighbors")
    show(result, as_json=as_json, text="\n".join(lines))


def features(
    run: RunOrBuiltin = MODEL, /, *images: Path, data: Data | None = None, out: Path,
    overwrite: Overwrite = False, layers: Layers = (), device: Device = "auto",
    ray: str | None = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Write pooled features of IMAGES, or of every split of a store, for use elsewhere.

        igpt features runs/a folder/ photo.jpg --layer 3 --out features.npz

    igpt features runs/a --data data/photos --out features.parquet

    An .npz holds features (image, layer, width), files and layers; of a store NAME_features,
    NAME_files and NAME_labels for each split, and class_names. A .parquet file and a folder for
    the datasets library hold a row an image.

    Args:
        images: Image files, and folders, zip or tar files of them.
        out: An .npz or .parquet file, or a new folder, whose name has no ending.
        ray: With --data: address of a Ray cluster that extracts them, or local to start one here.
            Every node has to reach the store.
    """
    from igpt.runs.features import write_features

    result = write_features(
        run, images, data=data, layers=layers or None, out=out, overwrite=overwrite, device=device,
        ray=ray,
    )  # fmt: skip
    counts = ", ".join(f"{count} {name}" for name, count in result.images.items())
    lines = [f"skipped: {file.reason}" for file in result.skipped]
    lines.append(
        f"{out}: {counts}; layers {', '.join(map(str, result.layers))}, {result.width} numbers each"
    )
    show(result, as_json=as_json, text="\n".join(lines))
