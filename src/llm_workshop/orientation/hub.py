"""Is a model of the Hugging Face hub to be had here: in the cache, from the network, or not at all, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class HubModel:
    """A name on the hub and where its files are.  ``reason`` (Korean) says why it is "absent", else what will happen."""

    name: str
    state: Literal["cached", "downloadable", "absent"]
    reason: str
    n_bytes: int | None = None

    @property
    def usable(self) -> bool:
        return self.state != "absent"


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids to ask the hub, by its own rule."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def look_for_hub_model(name: str, cache: str | Path | None = None, seconds: float = 8.0) -> HubModel:
    """Look into the cache first, then ask the hub, for at most ``seconds``; nothing is downloaded.

    ``cache``: the folder of downloads; None is the hub library's own.  A network that is missing, a proxy that refuses or
    a model that does not exist are answers, not errors.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = Path(snapshot_download(name, cache_dir=cache, local_files_only=True))
        if (folder / "config.json").exists() and any(folder.glob("*.safetensors")):
            return HubModel(name, "cached", "이미 내려받아 두었습니다")
    except LocalEntryNotFoundError:
        pass
    except HFValidationError:
        return HubModel(name, "absent", f"허브의 이름이 아닙니다: '{name}'. 조직/모델 꼴로 적으세요")
    if is_offline():
        return HubModel(name, "absent", "HF_HUB_OFFLINE이 켜져 있고 캐시에도 없습니다. 네트워크가 있는 곳에서 HF_HUB_OFFLINE을 지우고 한 번 실행하세요")
    try:
        found = HfApi().model_info(name, files_metadata=True, timeout=seconds)
    except GatedRepoError:
        return HubModel(name, "absent", "허락을 받아야 하는 모델입니다. 모델 카드에서 동의하고 HF_TOKEN을 정하세요")
    except RepositoryNotFoundError:
        return HubModel(name, "absent", "허브에 그런 모델이 없습니다. 이름의 철자를 보세요")
    except Exception as error:  # every network stack has its own kinds of failure
        return HubModel(name, "absent", f"허브에 닿지 못했습니다({type(error).__name__}). 네트워크와 프록시(HTTPS_PROXY)를 보세요")
    n_bytes = sum(file.size or 0 for file in found.siblings or () if file.rfilename.endswith((".safetensors", ".json", ".txt")))
    return HubModel(name, "downloadable", f"약 {n_bytes / 1e9:.1f} GB를 내려받습니다", n_bytes)
