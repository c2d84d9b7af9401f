"""The data report as a page (`fv/templates/data_report.html`)."""

from fv import page
from fv.conversion import report

_ROWS_SHOWN = 50  # of a list; report.json has up to `report.LISTED`


def render(content: dict, suspects: bytes | None = None, pairs: bytes | None = None) -> str:
    """Renders the whole page, which needs no other file.

    Args:
      content: from `report.build`.
      suspects: JPEG bytes of a sheet of pictures found under two identities, in the order of the
        report; None without such pictures.
      pairs: JPEG bytes of a sheet of sampled pairs.

    Returns:
      HTML, the same for the same arguments.
    """
    return page.render(
        "data_report.html",
        title="Data report",
        content=content,
        suspects_sheet=suspects,
        pairs_sheet=pairs,
        rows_shown=_ROWS_SHOWN,
        file=report.FILE_NAME,
        most_listed=report.LISTED,
    )
