import numpy as np

from igpt.data.account import Account, count_classes, skipped_by_reason
from igpt.values import from_dict, to_dict


def account(**values) -> Account:
    known = {"read": 8, "skipped": (), "ignored": {}, "left_out": 0, "notes": (), "classes": {}}
    return Account(**known | values)


def test_an_account_is_read_as_it_was_written():
    whole = account(
        skipped=skipped_by_reason([("broken", "a.png is broken")]),
        ignored={".txt": 2},
        notes=("odd",),
        classes={"ant": {"train": 1}},
    )
    assert from_dict(Account, to_dict(whole)) == whole


def test_skipped_images_are_counted_by_reason_with_the_first_few_named():
    skipped = [("too small", "x is small")] + [("broken", f"{i} is broken") for i in range(9)]
    broken, small = skipped_by_reason(skipped)
    assert (broken.reason, broken.images) == ("broken", 9)
    assert broken.examples == ("0 is broken", "1 is broken", "2 is broken")
    assert (small.reason, small.images) == ("too small", 1)
    assert account(skipped=(broken, small)).text() == (
        "read 8 images, skipped 10\n"
        "skipped 9 (broken), such as: 0 is broken; 1 is broken; 2 is broken\n"
        "skipped 1 (too small), such as: x is small"
    )


def test_what_is_ignored_is_counted_by_kind_the_most_first():
    ignored = {".txt": 2, "hidden/": 1500} | {f".{i}": 1 for i in range(15)}
    (_, line) = account(ignored=ignored).text().splitlines()
    assert line.startswith("ignored: 1,500 hidden/, 2 .txt, 1 .0, ")
    assert line.endswith(", 5 of 5 more kinds")


def test_classes_are_counted_in_every_split():
    labels = {"train": np.array([0, 0, 2]), "test": np.array([1])}
    counts = count_classes(("ant", "bee", "cow"), labels)
    assert account(classes=counts).text().splitlines()[1:] == [
        "class  train  test",
        "ant        2     0",
        "bee        0     1",
        "cow        1     0",
    ]


def test_of_many_classes_the_first_are_shown():
    counts = {f"class {index}": {"train": index} for index in range(100)}
    lines = account(classes=counts).text().splitlines()
    assert lines[2].split() == ["class", "0", "0"]
    assert len(lines) == 23
    assert lines[-1] == "... and 80 more classes; all of them are in store.json"
