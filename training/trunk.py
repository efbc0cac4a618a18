"""A small residual trunk for small pictures, registered with timm under its own name."""

from __future__ import annotations

from typing import Any

NAME = "sparseclip_resnet"
"""As `timm_model_name` in a vision configuration."""


def register_trunk() -> None:
    """Makes NAME known to timm; a second call changes nothing.

    The usual ResNet halves a 64-pixel picture to 2 x 2. This one stops at 4 x 4 (16 patches): four
    stages of one basic block, the last without a stride. 1.2M parameters.
    """
    import timm
    from timm.models import register_model
    from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

    if timm.is_model(NAME):
        return

    def sparseclip_resnet(pretrained: bool = False, **settings: Any) -> ByobNet:
        if pretrained:
            raise ValueError(f"{NAME}: has no pretrained weights")
        settings.pop("pretrained_cfg", None)
        settings.pop("pretrained_cfg_overlay", None)
        settings.pop("cache_dir", None)
        config = ByoModelCfg(
            blocks=tuple(
                ByoBlockCfg(type="basic", d=1, c=c, s=s)
                for c, s in ((32, 1), (64, 2), (128, 2), (256, 1))
            ),
            stem_chs=32,
            stem_type="3x3",
            stem_pool="max",
        )
        return ByobNet(config, **settings)

    sparseclip_resnet.__module__ = __name__
    register_model(sparseclip_resnet)
