"""Builds fv; pyproject.toml holds the metadata."""

import setuptools

setuptools.setup()
