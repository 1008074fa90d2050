"""How good the moving pictures of a model are."""
