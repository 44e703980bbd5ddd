"""PIE-Bench's learned measures, of networks whose weights are in folders on disk: CLIP, DINO, and LPIPS through torchmetrics.

They are computed as PIE-Bench's evaluation does (Ju et al. 2024), on pictures of 8 bits, with what is peculiar in it, so that
published numbers can be met:

    pie_structure     mean square difference of two pictures' matrices of cosines between the keys of DINO's last layer (x 1000 in
                      tables). The pictures go in as 0 … 255 less ImageNet's mean, over its deviation: 255 times too large.
    pie_lpips         LPIPS of SqueezeNet on both pictures times (1 - mask)
    pie_clip          100 cos(picture, target prompt), at least 0, of CLIP; pie_clip_edited likewise of the picture times the mask
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vsvf.apps.edit.cases import Case

EDGE, LONGEST = 224, 480  # of the pictures that DINO sees
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
KEYS = ("attention.k_proj", "attention.attention.key")  # the layer of the keys, in transformers from 5 on and before


class Learned:
    """The measures whose networks are given.

    Args:
        clip: folder of a `CLIPModel` with its processor, as transformers writes it (openai/clip-vit-large-patch14 is PIE-Bench's).
        dino: folder of a `ViTModel` (facebook/dino-vitb8). lpips: whether LPIPS is computed. device: where they are put.

    Raises:
        FileNotFoundError: no such folder, or for LPIPS no weights of SqueezeNet among torch.hub's checkpoints. ValueError: a folder
            without the network. ImportError: transformers, or for LPIPS torchvision, is not installed.
    """

    def __init__(
        self,
        clip: str | Path | None = None,
        dino: str | Path | None = None,
        lpips: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.clip = self.processor = self.dino = self.lpips = None
        self.names: list[str] = []
        if dino is not None:
            self.dino, self.names = self._loaded("ViTModel", dino), ["pie_structure"]
            found = [module for name, module in self.dino.named_modules() if name.endswith(KEYS)]
            if not found:
                raise ValueError(f"{dino}: {type(self.dino).__name__} has no layer {' or '.join(KEYS)}")
            self.keys = found[-1]
        if lpips:
            self.lpips, self.names = _lpips().to(self.device), [*self.names, "pie_lpips"]
        if clip is not None:
            self.clip, self.processor = self._loaded("CLIPModel", clip), self._loaded("CLIPProcessor", clip)
            self.names += ["pie_clip", "pie_clip_edited"]

    def _loaded(self, kind: str, folder: str | Path) -> Any:
        import transformers

        if not Path(folder).is_dir():
            raise FileNotFoundError(f"{folder} is no folder: it should hold a {kind} as transformers writes it")
        try:
            found = getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder} holds no {kind}: {str(error).splitlines()[0]}") from error
        return found.to(self.device).eval() if isinstance(found, torch.nn.Module) else found

    @torch.no_grad()
    def __call__(self, found: torch.Tensor, case: Case) -> dict[str, float]:
        """`names` with their values; NaN where a part of the picture is wanted and the mask leaves none.

        Args:
            found: (C, H, W) in [-1, 1], the edit. case: the picture, the target's prompt and the mask.
        """
        values = dict.fromkeys(self.names, math.nan)
        one, other = eight_bits(found), eight_bits(case.picture)
        inside = case.mask
        if self.dino is not None:
            values["pie_structure"] = float(F.mse_loss(self.similarities(one), self.similarities(other)))
        if self.lpips is not None and not bool(inside.all()):
            pair = [(2.0 * (picture / 255.0 * ~inside) - 1.0)[None].to(self.device) for picture in (one, other)]
            values["pie_lpips"] = float(self.lpips(*pair))
        if self.clip is not None:
            values["pie_clip"] = self.likeness(one, case.target)
            if bool(inside.any()):
                values["pie_clip_edited"] = self.likeness(one * inside, case.target)
        return values

    def similarities(self, picture: torch.Tensor) -> torch.Tensor:
        """(T, T): cosines between the keys, all heads together, of every two of T tokens; of (3, H, W) in 0 … 255."""
        assert self.dino is not None
        h, w = picture.shape[-2:]
        scale = min(EDGE / min(h, w), LONGEST / max(h, w))
        size = [max(1, round(edge * scale)) for edge in (h, w)]
        x = F.interpolate(picture[None].float(), size, mode="bilinear")  # without antialiasing, as torchvision did then
        x = (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
        seen: list[torch.Tensor] = []
        handle = self.keys.register_forward_hook(lambda module, given, keys: seen.append(keys[0]))
        try:
            self.dino(x.to(self.device), interpolate_pos_encoding=True)
        finally:
            handle.remove()
        norm = seen[0].norm(dim=-1, keepdim=True)
        return (seen[0] @ seen[0].T / (norm @ norm.T).clamp(min=1e-8)).cpu()

    def likeness(self, picture: torch.Tensor, prompt: str) -> float:
        """max(0, 100 cos) of CLIP's embeddings of (3, H, W) in 0 … 255 and of a prompt."""
        assert self.clip is not None and self.processor is not None
        given = self.processor(text=[prompt], images=[picture.byte()], return_tensors="pt", padding=True, truncation=True)
        answer = self.clip(**{name: value.to(self.device) for name, value in given.items()})
        return max(0.0, 100.0 * float(F.cosine_similarity(answer.image_embeds, answer.text_embeds)))


def eight_bits(picture: torch.Tensor) -> torch.Tensor:
    """(C, H, W) in [-1, 1] as the numbers 0 … 255 that a file would have, float32."""
    return ((torch.nan_to_num(picture.detach().cpu().float()).clamp(-1.0, 1.0) + 1.0) * 127.5).round()


def _lpips() -> Any:
    try:
        from torchvision.models import SqueezeNet1_1_Weights
    except (ImportError, RuntimeError) as error:
        raise ImportError("LPIPS is torchvision's SqueezeNet with torchmetrics' weights: pip install 'vsvf[fid]'") from error
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    weights = Path(torch.hub.get_dir()) / "checkpoints" / SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    if not weights.is_file():  # torchvision would fetch it
        raise FileNotFoundError(f"LPIPS reads SqueezeNet's weights, torchvision's {weights.name}, from {weights}")
    return LearnedPerceptualImagePatchSimilarity(net_type="squeeze")
