"""Person matte: how much of every pixel of a portrait is the person."""
