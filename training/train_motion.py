"""Second phase: the motion modules learn on windows of frames; all else stays as the first phase left it.

    python -m training.train_motion --preset small --data FOLDER --start PHASE1/model --output FOLDER
    accelerate launch -m training.train_motion --preset sd15 --data FOLDER --start PHASE1/model \\
        --output FOLDER --set model.vae=SD15 --set model.motion=mm_sd_v15_v2.ckpt

Running the same command again goes on where it stopped. The result is in OUTPUT/model.
"""

from __future__ import annotations

import sys

from training.command import main

if __name__ == "__main__":
    sys.exit(main("motion", __doc__))
