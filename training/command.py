"""The command line of both phases: errors people can act on, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .train_options import Phase, command_line


def main(phase: Phase, description: str, arguments: Sequence[str] | None = None) -> int:
    """0: done; 1: an error, said in one sentence; 2: wrong arguments; 130: stopped by a signal."""
    try:
        options = command_line(phase, description, arguments)
        from magicportrait_core.packages import check_diffusers

        check_diffusers()
        from .trainer import run

        return run(options)
    except KeyboardInterrupt:
        print("\nstopped; the last saved state stays", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        return _failed(f"training needs {error.name}: run pip install -r requirements-training.txt")
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return _failed(str(error))
    except (RuntimeError, MemoryError) as error:
        from magicportrait_core.diffusion.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        return _failed(
            f"{(str(error) or 'out of memory').splitlines()[0].rstrip('.')}; raise compute.accumulate, or "
            "set compute.checkpointing=true"
        )


def _failed(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
