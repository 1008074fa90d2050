"""First phase: AppearanceNet, guidance encoders and the Denoising UNet learn on single pictures.

    python -m training.train_appearance --preset small --data FOLDER --output FOLDER --validate FOLDER
    accelerate launch -m training.train_appearance --preset sd15 --data FOLDER --output FOLDER \\
        --start SD15 --set model.vae=SD15 --set model.text=SD15

Running the same command again goes on where it stopped. The result is in OUTPUT/model.
"""

from __future__ import annotations

import sys

from training.command import main

if __name__ == "__main__":
    sys.exit(main("appearance", __doc__))
