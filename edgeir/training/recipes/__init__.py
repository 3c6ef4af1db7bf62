"""Compression recipes: a model made small in stages, each of passes and training."""

from edgeir.training.recipes.engine import Machine, fixed, run_recipe
from edgeir.training.recipes.reading import read_recipe
from edgeir.training.recipes.recipe import Distill, Recipe, RecipeData, Stage, Train
from edgeir.training.recipes.report import RecipeReport, StageReport

__all__ = [
    "Distill",
    "Machine",
    "Recipe",
    "RecipeData",
    "RecipeReport",
    "Stage",
    "StageReport",
    "Train",
    "fixed",
    "read_recipe",
    "run_recipe",
]
