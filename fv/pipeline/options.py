"""How pairs come from the shards to the training step."""

import dataclasses

from fv.errors import UserError
from fv.options import option

DECODERS = ("auto", "tensorflow", "host")
CACHES = ("none", "encoded", "decoded")
# TensorFlow's kernels decode only the crop: at a crop of 0.64 they are 1.09 × as fast as the host.
_HOST_CROP_FRACTION = 0.7


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """The choices of a training run.

    All but `genuine_only` and `images_per_identity` give the same pairs. All but these and
    `data_service` give them in the same order.
    """

    decoder: str = option(
        "auto",
        "Decoder of JPEGs: TensorFlow's kernels, or simplejpeg and OpenCV in processes of their "
        "own (host). auto takes host if crop_fraction times the largest scale is at least 0.7 or "
        "another flag needs it, else tensorflow, which decodes only the crop.",
        choices=DECODERS,
    )
    load_size: int | None = option(
        None,
        "Side in pixels of the images that leave the host; the device resizes them to "
        "image_size. By default the stored side if all stored images are squares of one size of "
        "at most 1.5 × image_size, else image_size.",
        lower=8,
        upper=4096,
    )
    cache: str = option(
        "none",
        "What to hold in memory after one pass over the shards: the records (encoded), or the "
        "pixels of each distinct image (decoded). A cache that does not fit is refused at the "
        "start.",
        choices=CACHES,
    )
    max_bad_records: int = option(
        0,
        "Damaged records that an input worker may skip and report; the next one stops the run.",
        lower=0,
    )
    genuine_only: bool = option(
        False,
        "Use genuine pairs only, each equally often; for losses that need no impostor pairs, "
        "such as a softmax over identities.",
    )
    images_per_identity: int = option(
        0,
        "Balance batches: this many images of each identity, in genuine pairs only, and each "
        "identity equally often; for heads that compare all images of a batch. 0 takes the "
        "pairs as they come.",
        lower=0,
    )
    data_service: str = option(
        "",
        "Decode on other hosts by a tf.data service: grpc://HOST:PORT of its dispatcher (see "
        "tools/data_service.py).",
    )

    @property
    def genuine_pairs_flag(self) -> str | None:
        """The flag that shows genuine pairs alone, as it was given; None with impostor pairs."""
        if self.images_per_identity:
            return f"--images_per_identity={self.images_per_identity}"
        return "--genuine_only" if self.genuine_only else None

    def decodes_on_host(self, crop_fraction: float) -> bool:
        """Whether simplejpeg decodes, given that `check` passes."""
        if self.decoder != "auto":
            return self.decoder == "host"
        needs_host = self.cache != "none" or self.max_bad_records or self.genuine_pairs_flag
        return bool(needs_host) or crop_fraction >= _HOST_CROP_FRACTION

    def check(self) -> None:
        """Checks that the choices go together.

        Raises:
          UserError: they do not.
        """
        if self.data_service:
            self._check_service()
        if self.decoder == "tensorflow" and self.max_bad_records:
            raise UserError(
                "--max_bad_records needs --decoder=host: "
                "TensorFlow's kernels do not say which record failed"
            )
        if self.decoder == "tensorflow" and self.cache != "none":
            raise UserError(f"--cache={self.cache} needs --decoder=host, which fills it")
        if self.genuine_only and self.images_per_identity:
            raise UserError(
                "--images_per_identity shows genuine pairs alone already: leave --genuine_only out"
            )
        if self.decoder == "tensorflow" and self.genuine_pairs_flag:
            raise UserError(
                f"{self.genuine_pairs_flag} needs --decoder=host, which reads records in any order"
            )
        if self.images_per_identity % 2:
            raise UserError(
                f"--images_per_identity={self.images_per_identity} is odd, and images come in "
                "pairs: make it even"
            )

    def _check_service(self) -> None:
        if not self.data_service.startswith("grpc://"):
            raise UserError(
                f"--data_service={self.data_service} is no address: "
                "give grpc://HOST:PORT of the dispatcher"
            )
        local = {
            "--decoder=host": self.decoder == "host",
            f"--cache={self.cache}": self.cache != "none",
            "--max_bad_records": self.max_bad_records > 0,
            f"{self.genuine_pairs_flag}": self.genuine_pairs_flag is not None,
        }
        for flag, given in local.items():
            if given:
                raise UserError(
                    f"{flag} acts in this process and cannot travel to --data_service: "
                    "leave one of them out"
                )
