"""Editing pictures by changing their prompt: one loop for all methods, and small objects that say what is replaced where.

    from vsvf.apps.edit import Settings, edit

Nothing is trained. A picture goes up to its latent under the prompt that describes it, and down under another.
"""

from __future__ import annotations

from vsvf.apps.edit.editing import Edited, edit
from vsvf.apps.edit.methods import EDIT_METHODS, Settings

__all__ = ["EDIT_METHODS", "Edited", "Settings", "edit"]
