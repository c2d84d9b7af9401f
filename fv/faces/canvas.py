"""The picture being painted: unlit colour, and how the surface slopes for the light that comes later."""

import numpy as np

from fv.faces.palette import RGB

Slopes = tuple[np.ndarray, np.ndarray]


class Canvas:
    """Layers composited one over the other.

    Attributes:
      colour: (3, H, W) float32, mostly in [0, 1]; more than 1 glints.
      slopes: (2, H, W) float32, change of depth towards the viewer per unit to the right and downwards.
      lit: (H, W) float32 in [0, 1], how much of the pixel the light models; the backdrop's share is 0.
      stencil: (H, W) in [0, 1] that every mask is multiplied by, or 1.
    """

    def __init__(self, backdrop: np.ndarray):
        self.colour = backdrop
        self.slopes = np.zeros((2, *backdrop.shape[1:]), np.float32)
        self.lit = np.zeros(backdrop.shape[1:], np.float32)
        self.stencil: np.ndarray | float = 1.0

    def paint(
        self, mask: np.ndarray, colour: RGB | np.ndarray, slopes: Slopes | None = None
    ) -> None:
        """Lays a colour over the picture.

        Args:
          mask: (H, W) opacity in [0, 1].
          colour: one colour or (3, H, W).
          slopes: the new surface's; None paints on the surface that is there.
        """
        if isinstance(colour, tuple):
            colour = np.asarray(colour, np.float32)[:, None, None]
        mask = self.stencil * mask
        self.colour += mask * (colour - self.colour)
        if slopes is not None:
            for plane, slope in zip(self.slopes, slopes, strict=True):
                plane += mask * (slope - plane)
            self.lit += mask * (1.0 - self.lit)

    def multiply(self, mask: np.ndarray, factor: float) -> None:
        """Darkens (factor under 1) or brightens what is under the mask."""
        self.colour *= 1.0 + self.stencil * mask * (factor - 1.0)


def slopes_of(depth: np.ndarray, pixel: float) -> Slopes:
    """Slopes of a depth map (H, W), to the right and downwards, whose pixels are `pixel` wide."""
    down, right = np.gradient(depth)
    return right / pixel, down / pixel
