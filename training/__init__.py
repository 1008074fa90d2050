"""Training of MagicPortrait: data, both phases, evaluation. Run as python -m training.<script>."""
