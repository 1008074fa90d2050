"""The one package that ComfyUI does not bring: which versions work, and what people read without it."""

from __future__ import annotations

import logging
import re
import sys
from importlib.metadata import PackageNotFoundError, version

logger = logging.getLogger("magicportrait")

# Oldest tested and first untested release; requirements.txt and pyproject.toml say the same. The networks are
# built from diffusers' own blocks, so a release has to be tried before it is allowed.
DIFFUSERS = ("0.32.2", "0.43")
DIFFUSERS_REQUIREMENT = f"diffusers>={DIFFUSERS[0]},<{DIFFUSERS[1]}"


def check_diffusers() -> None:
    """Return when diffusers can be used; ImportError says in one sentence what to install.

    A newer release than the tested ones is only logged: it may well work.
    """
    remedy = f'run "{sys.executable}" -m pip install "{DIFFUSERS_REQUIREMENT}" and start this program again'
    try:
        found = version("diffusers")
    except PackageNotFoundError:
        raise ImportError(
            f"MagicPortrait's networks need the package diffusers, which is not installed: {remedy}."
        ) from None
    oldest, untested = map(_numbers, DIFFUSERS)
    if _numbers(found) < oldest:
        raise ImportError(
            f"diffusers {found} is older than {DIFFUSERS[0]}, the oldest that MagicPortrait's networks work "
            f"with: {remedy}."
        )
    if _numbers(found) >= untested:
        logger.warning(
            "diffusers %s is newer than tested (%s); if a node fails, %s",
            found,
            DIFFUSERS_REQUIREMENT,
            remedy,
        )


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:3])
