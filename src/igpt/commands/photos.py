"""What a run makes of photographs: their classes, those that are like them, their features."""

from pathlib import Path

from igpt.commands.options import Count, Device, Json, Overwrite, Run, show


def classify(
    run: Run, /, *images: Path, top: Count = 3, out: Path | None = None,
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
