"""Version folders: written under a name that servers pass over, renamed when whole, the oldest removed."""

import contextlib
import os
import sys
from collections.abc import Iterator

from fv import files, ownership
from fv.errors import UserError
from fv.serving import checksums, model_card


@contextlib.contextmanager
def new_version(output: str) -> Iterator[str]:
    """Makes a folder to fill, which becomes the next version when the block ends without an exception.

    It lies in OUTPUT/.fv/, which TensorFlow Serving passes over; what killed exports left there is removed first.

    Args:
      output: folder of versions; made where it is missing.

    Yields:
      The folder, under its temporary name.
    """
    with ownership.writing(output) as temporary:
        yield temporary
        _publish(temporary, output)


def versions(output: str) -> list[int]:
    """The versions in a folder, rising."""
    return sorted(int(name) for name in os.listdir(output) if name.isdecimal())


def remove_oldest(output: str, keep: int) -> None:
    """Removes all but the last `keep` versions; 0 keeps all. Each vanishes at once: a server never sees half of one.

    Only exports of fv are counted and removed, and only if they hold exactly the files that fv.export wrote. One line on
    stderr names the older folders that stay.
    """
    exports = [
        version for version in versions(output) if _is_export(os.path.join(output, str(version)))
    ]
    changes = {}
    for version in exports[:-keep] if keep else []:
        folder = os.path.join(output, str(version))
        changes[version] = checksums.find_change(folder)
        if changes[version] is None:
            with ownership.writing(output) as doomed:
                os.rename(folder, os.path.join(doomed, str(version)))
    changes |= {
        other: "no export of fv"
        for other in versions(output)[:-keep]
        if keep and other not in exports
    }
    kept = [f"{version}/ ({changes[version]})" for version in sorted(changes) if changes[version]]
    if kept:
        print(f"--keep={keep} leaves in {output}: {', '.join(kept)}", file=sys.stderr)


def latest(path: str) -> str:
    """The version folder itself, or the highest version in a folder of versions.

    Raises:
      UserError: neither.
    """
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return path
    held = versions(path) if os.path.isdir(path) else []
    if not held:
        raise UserError(
            f"{path} holds no SavedModel: give a version folder that fv.export wrote, such as export/1"
        )
    return os.path.join(path, str(held[-1]))


def _publish(temporary: str, output: str) -> None:
    """Renames to the next free integer; another export may have taken it since."""
    while True:
        version = os.path.join(output, str(max(versions(output), default=0) + 1))
        try:
            os.rename(temporary, version)
            return
        except OSError:
            if not os.path.exists(version):
                raise


def _is_export(folder: str) -> bool:
    """Whether a folder is what fv.export made, or was before somebody changed it."""
    card = os.path.join(folder, model_card.JSON)
    if os.path.islink(folder) or not (os.path.isfile(card) and checksums.exist(folder)):
        return False
    try:
        return files.load_json(card).keys() >= model_card.KEYS
    except (UserError, AttributeError):
        return False
