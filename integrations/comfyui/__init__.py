"""ComfyUI nodes for vsvf: samplers by any of its formulas, their exact inverses, and a state that carries the k-tuple.

Copy or link this folder into ComfyUI's `custom_nodes` as `vsvf`, with the package vsvf installed in ComfyUI's environment.
"""

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
