"""The HTTP service as a Ray Serve application, with two replicas.

FV_MODEL=$PWD/export serve run configs.serving.ray_app:app
"""

import os

from ray import serve

from fv.serve import ServeOptions, make_app


def build():
    """Makes the application in each replica, which loads the model."""
    return make_app(ServeOptions(model=os.environ["FV_MODEL"]))


@serve.deployment(num_replicas=2, max_ongoing_requests=64)
@serve.ingress(build)
class Service:
    """Ray's proxy distributes requests. Limits and metrics are those of one replica."""


app = Service.bind()  # type: ignore[attr-defined]
