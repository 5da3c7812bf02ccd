"""What a method is: its protocol, where it is found, its hyper-parameters, and what ``adapt`` sees.

No run, no training loop and no store: a method can be described without any of them.
"""

from harness.method.protocol import (
    REQUIRED,
    AdaptsTogether,
    Batched,
    Embeds,
    Learns,
    Need,
    Traits,
    check_method,
    defaults,
    embeds,
    encoder_of,
    need_of,
    needs,
    needs_of,
    passes_of,
    traits,
    views_of,
)
from harness.method.recipe import CLEAN, Conditions, CropsFrom, Recipe, SelectionRole, recipes

__all__ = [
    "CLEAN",
    "REQUIRED",
    "AdaptsTogether",
    "Batched",
    "Conditions",
    "CropsFrom",
    "Embeds",
    "Learns",
    "Need",
    "Recipe",
    "SelectionRole",
    "Traits",
    "check_method",
    "defaults",
    "embeds",
    "encoder_of",
    "need_of",
    "needs",
    "needs_of",
    "passes_of",
    "recipes",
    "traits",
    "views_of",
]
