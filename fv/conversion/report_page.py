"""The data report as a page, in the order in which the owner of the data asks: what is wrong first, then what is in it."""

from fv import page
from fv.conversion import report

_SHOWN = 50  # rows of a list; report.json has up to `report.LISTED`
_MEGA = 1e6


def render(content: dict, suspects: bytes | None = None, pairs: bytes | None = None) -> str:
    """The whole page, which needs no other file.

    Args:
      content: from `report.build`.
      suspects: JPEG bytes of a sheet of pictures found under two identities, those listed first; None where there is none.
      pairs: JPEG bytes of a sheet of sampled pairs.

    Returns:
      HTML, the same for the same arguments.
    """
    copies = content["copies"]
    files = (_summary(content), _left_out(content), _passed_over(content))
    wrong = (*files, _two_identities(copies, suspects), _redundant(copies))
    return page.page(
        "Data report",
        *wrong,
        _identities(content),
        _sizes(content["sizes"]),
        _pairs(content, pairs),
    )


def _summary(content: dict) -> str:
    images, identities, copies = content["images"], content["identities"], content["copies"]
    kept = f"{images['kept']:,} of {images['found']:,} images kept, of {_many(identities['kept'], 'identity')}"
    found = copies["images_under_two_identities"]
    alert = (
        f"{_many(found, 'image')} found under two identities: a label is likely wrong."
        if found
        else ""
    )
    header = [
        "split",
        "identities",
        "images in pairs",
        "genuine pairs",
        "impostor pairs",
        "shards",
        "MB",
    ]
    rows = [
        [name, *list(split.values())[:-1], round(split["bytes"] / _MEGA, 1)]
        for name, split in content["splits"].items()
    ]
    return "\n".join(
        (
            page.paragraph(f"{kept}; {images['in_pairs']:,} of them are in pairs."),
            page.paragraph(alert, "alert") if alert else "",
            *(page.paragraph(_doubt(doubt), "alert") for doubt in content["identities"]["doubts"]),
            page.table(header, rows),
        )
    )


def _left_out(content: dict) -> str:
    count, left_out = content["images"]["left_out"], content["left_out"]
    if not count:
        return page.section("Left out", page.paragraph("No image was left out."))
    reasons = [
        [row["kind"] if row["files"] > 1 else row["reason"], row["files"], row["example"]]
        for row in left_out["reasons"]
    ]
    files = [[row["path"], row["reason"]] for row in left_out["files"][:_SHOWN]]
    return page.section(
        "Left out",
        page.paragraph(
            f"{_many(count, 'image')} left out, for {_many(left_out['kinds'], 'kind')} of reasons."
        ),
        page.table(["reason", "images", "for example"], reasons),
        page.fold(
            _first("images left out", len(files), count) or "The image",
            page.table(["image", "reason"], files),
        ),
        _lost(content["identities"]),
    )


def _doubt(doubt: dict) -> str:
    return f"{doubt['seen']}: {doubt['means']}; {doubt['decides']}."


def _passed_over(content: dict) -> str:
    """Files by suffix that are no images by their names, and the sum of all files."""
    counts, suffixes = content["files"], content["passed_over"]
    listed = f", {counts['not_listed']:,} not listed" if counts["not_listed"] else ""
    text = f"{counts['found']:,} files and links: {counts['used']:,} used, {counts['left_out']:,} left out{listed}, "
    rows = [
        [row["suffix"], row["files"], row["example"], row["advice"]] for row in suffixes[:_SHOWN]
    ]
    return page.section(
        "Passed over",
        page.paragraph(
            f"{text}{counts['passed_over']:,} passed over, whose suffix is not one of an image that fv reads."
        ),
        page.table(["suffix", "files", "for example", "what to do"], rows) if rows else "",
    )


def _lost(identities: dict) -> str:
    if not identities["left_out"]:
        return ""
    names = identities["left_out_names"][:_SHOWN]
    text = f"{_many(identities['left_out'], 'identity')} left out, with no image kept: {', '.join(names)}"
    return page.paragraph(text + (", …" if len(names) < identities["left_out"] else "."))


def _two_identities(copies: dict, suspects: bytes | None) -> str:
    found = copies["two_identities"]
    if not found["listed"]:
        return page.section(
            "One picture, two identities",
            page.paragraph("No picture was found under two identities."),
        )
    text = (
        f"{_many(copies['images_under_two_identities'], 'image')} found under two identities or more: one of the labels is "
        "likely wrong, or the picture would leak from one split into another."
    )
    alt = "Pictures found under two identities, side by side; the table below names the files."
    return page.section(
        "One picture, two identities",
        page.paragraph(text),
        page.image(suspects, alt, "The first of them.") if suspects else "",
        _listed(found),
    )


def _redundant(copies: dict) -> str:
    found = copies["same_identity"]
    if not found["listed"]:
        return page.section(
            "Copies within one identity", page.paragraph("No picture is there twice.")
        )
    text = (
        f"{found['exact']:,} with the bytes of an earlier image and {found['near']:,} that show the picture of an earlier "
        f"one. They teach nothing new. The largest group of copies has {_many(copies['largest_group'], 'image')}."
    )
    return page.section(
        "Copies within one identity", page.paragraph(text), page.fold("The files", _listed(found))
    )


def _listed(found: dict) -> str:
    rows = [
        [
            row["first_path"],
            row["second_path"],
            "same bytes" if row["exact"] else f"{row['distance']} bits",
        ]
        for row in found["listed"][:_SHOWN]
    ]
    caption = _first("copies", len(rows), found["exact"] + found["near"])
    return page.table(["image", "its copy", "difference"], rows, caption)


def _identities(content: dict) -> str:
    identities, histogram = content["identities"], content["images_per_identity"]
    single = ""
    if identities["of_one_image"]:
        single = f"{_many(identities['of_one_image'], 'identity')} with one image, in impostor pairs only."
    return page.section(
        "Identities",
        page.paragraph(single, "soft") if single else "",
        page.bars(
            list(map(_range, histogram)),
            [row["identities"] for row in histogram],
            "Identities by number of images",
        ),
    )


def _sizes(sizes: dict) -> str:
    sides = sizes["shorter_side"]
    rows = [[f"{row['width']} × {row['height']}", row["images"]] for row in sizes["most_frequent"]]
    return page.section(
        "Sizes",
        page.bars(
            list(map(_range, sides)),
            [row["images"] for row in sides],
            "Images by shorter side, in pixels",
        ),
        page.table(
            ["width × height", "images"], rows, _first("sizes", len(rows), sizes["different"])
        ),
    )


def _pairs(content: dict, pairs: bytes | None) -> str:
    used = content["pairs_per_identity"]
    rows = [[row["identity"], row["genuine"], row["impostor"]] for row in used["most"]]
    alt = "Sampled pairs, genuine ones on the left and impostor pairs on the right, with the identities' names."
    unused = f"{_many(used['in_none'], 'identity')} in no pair." if used["in_none"] else ""
    return page.section(
        "Pairs",
        page.image(pairs, alt, "A sample of the pairs.") if pairs else "",
        page.paragraph(unused, "soft") if unused else "",
        page.table(
            ["identity", "genuine pairs", "impostor pairs"], rows, "The identities in most pairs"
        ),
    )


def _range(bin: dict) -> str:
    low, high = bin["from"], bin["to"]
    if high is None:
        return f"{low:,} or more"
    return f"{low:,}" if low == high else f"{low:,} – {high:,}"


def _first(what: str, shown: int, total: int) -> str:
    """What a list shows of how many."""
    if shown == total:
        return f"All {total:,} {what}" if total > 1 else ""
    return (
        f"The first {shown:,} of {total:,} {what}; {report.FILE_NAME} lists up to {report.LISTED:,}"
    )


def _many(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
