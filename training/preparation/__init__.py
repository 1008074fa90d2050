"""From videos to training clips: shots, the face's square, its track, maps, and what was dropped and why."""
