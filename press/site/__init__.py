"""The Sphinx extensions of the site, and its printed form."""
