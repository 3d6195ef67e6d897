"""Every other recipe in its small form, on generated music."""

from pipeline import recipes
from pipeline.recipes import Recipe, Step

_STEPS = tuple(
    Step(0.3, f"recipe {name} --small --html {{work}}/{name}.html") for name in recipes.names() if name != "demo"
)

RECIPE = Recipe(
    title="All recipes in their small form",
    study="none: the music is generated, and its scores say nothing",
    measured=True,
    whole=(*_STEPS, Step(0.2, "report demo --html {page}")),
    small=(*_STEPS, Step(0.2, "report demo --html {page}")),
    disk="40 MiB",
)
