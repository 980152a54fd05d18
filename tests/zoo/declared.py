"""What each family does in each task. `test_zoo.py` holds it; `python -m tools.zoo_table` writes it down."""

from __future__ import annotations

TASKS = ("anomaly", "discovery", "composition", "retrieval", "fusion", "continual", "segmentation")
WORKS = "works"

NO_PROMPTS = "takes no boxes or points"
NO_CLIP = "is no CLIP"
MASKS_ALONE = "gives masks for boxes and points"
RAGGED = "reads patches of no fixed grid"

EXAMPLES: dict[str, str] = {
    "CLIP": "openai/clip-vit-base-patch32",
    "MetaCLIP 2": "facebook/metaclip-2-worldwide-b32",
    "SigLIP": "google/siglip-base-patch16-224",
    "SigLIP 2": "google/siglip2-base-patch16-256",
    "SigLIP 2 NaFlex": "google/siglip2-base-patch16-naflex",
    "DINOv2": "facebook/dinov2-small",
    "DINOv2 with registers": "facebook/dinov2-with-registers-small",
    "DINOv3 ViT": "facebook/dinov3-vits16-pretrain-lvd1689m",
    "DINOv3 ConvNeXt": "facebook/dinov3-convnext-tiny-pretrain-lvd1689m",
    "ViT": "google/vit-base-patch16-224",
    "ViT-MAE": "facebook/vit-mae-base",
    "BEiT": "microsoft/beit-base-patch16-224",
    "AIMv2": "apple/aimv2-large-patch14-224",
    "ResNet": "microsoft/resnet-50",
    "RegNet": "facebook/regnet-y-040",
    "EfficientNet": "google/efficientnet-b4",
    "ConvNeXt": "facebook/convnext-tiny-224",
    "ConvNeXt V2": "facebook/convnextv2-tiny-1k-224",
    "Swin": "microsoft/swin-tiny-patch4-window7-224",
    "Swin V2": "microsoft/swinv2-tiny-patch4-window8-256",
    "SegFormer": "nvidia/mit-b0",
    "PVT v2": "OpenGVLab/pvt_v2_b0",
    "Hiera": "facebook/hiera-tiny-224-hf",
    "timm, by transformers": "timm/resnet18.a1_in1k",
    "SAM": "facebook/sam-vit-base",
    "SAM-HQ": "syscv-community/sam-hq-vit-base",
    "SAM 2, SAM 2.1": "facebook/sam2.1-hiera-tiny",
    "SAM 3 tracker": "facebook/sam3",
    "EdgeTAM": "yonigozlan/EdgeTAM-hf",
}
"""A published checkpoint of each family."""

LEARNS = ("CLIP",)
MASKS = ("SAM", "SAM-HQ", "SAM 2, SAM 2.1", "SAM 3 tracker", "EdgeTAM")


def said(family: str, task: str) -> str:
    """``works``, or the words of the refusal."""
    if family == "SigLIP 2 NaFlex":
        return RAGGED
    if family in MASKS:
        return WORKS if task == "segmentation" else MASKS_ALONE if task != "continual" else NO_CLIP
    if task == "segmentation":
        return NO_PROMPTS
    return NO_CLIP if task == "continual" and family not in LEARNS else WORKS
