"""Draws synthetic people, one folder of JPEG images each, to try fv where there are no photographs.

python tools/make_faces.py --output=/tmp/faces --identities=200 --images_per_identity=12 --seed=1
"""

from fv import cli
from fv.faces import dataset


def main(options: dataset.FacesOptions) -> None:
    if options.contact_sheet:
        dataset.check_contact_sheet(options.contact_sheet, options.output)
    rendered = dataset.write_dataset(options)
    if options.contact_sheet:
        dataset.write_contact_sheet(options)
    total = options.identities * options.images_per_identity
    print(
        f"{options.output}: {total} images of {options.identities} people, {rendered} of them new"
    )


if __name__ == "__main__":
    cli.run(main, dataset.FacesOptions, description=__doc__)
