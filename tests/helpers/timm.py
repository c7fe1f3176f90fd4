"""Whether timm, an optional dependency, can be imported."""

from __future__ import annotations

import pytest

from models.backbones.timm_models import ModelError, check_timm


def _is_usable() -> bool:
    try:
        check_timm("resnet18")
    except ModelError:
        return False
    return True


needs_timm = pytest.mark.skipif(not _is_usable(), reason="needs timm: pip install 'melray[timm]'")
