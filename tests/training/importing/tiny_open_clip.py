"""Configurations of tiny models of open_clip, one for each kind of tower."""

from __future__ import annotations

from typing import Any

CONTEXT = 16

TEXT = {"context_length": CONTEXT, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TIMM = {"timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
SQUASH = {"interpolation": "bilinear", "resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3}

Config = dict[str, Any]

MODELS: dict[str, tuple[Config, Config]] = {
    # CLIP's own: a class token, pixels by the shortest side and a crop
    "vit": ({"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT}, {}),
    # QuickGELU and a mean of patches, whose norm comes after it; the text's last token
    "mean": (
        {
            "embed_dim": 24,
            "quick_gelu": True,
            "vision_cfg": VIT | {"pool_type": "avg", "final_ln_after_pool": True},
            "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "last"},
        },
        {"resize_mode": "longest"},
    ),
    # as SigLIP: attention pooling without a projection, a logit bias, and a projection with one
    "attention": (
        {
            "embed_dim": 96,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": TIMM
            | {"timm_model_name": "test_vit3", "timm_pool": "map", "timm_proj": "none"}
            | {"image_size": 160},
            "text_cfg": TEXT | {"proj_bias": True, "pool_type": "last", "no_causal_mask": True},
        },
        SQUASH,
    ),
    # as PE-Core: rotary positions, a class token and attention pooling
    "rotary": (
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": TIMM
            | {"timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_pool": "map"}
            | {"timm_proj": None, "image_size": 384},
            "text_cfg": TEXT,
        },
        SQUASH,
    ),
    # as MobileCLIP2: a convolutional network whose head is the projection
    "map": (
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": TIMM | {"timm_model_name": "fastvit_t8", "timm_proj": None},
            "text_cfg": TEXT,
        },
        {"interpolation": "bilinear", "mean": [0, 0, 0], "std": [1, 1, 1]},
    ),
    # a convolutional network with a norm after the mean, and open_clip's own projection
    "map_norm": (
        {
            "embed_dim": 24,
            "vision_cfg": TIMM | {"timm_model_name": "test_convnext"},
            "text_cfg": TEXT,
        },
        {},
    ),
    # CLIP's ResNet, which has no patches
    "resnet": (
        {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
            "text_cfg": TEXT,
        },
        {},
    ),
}
