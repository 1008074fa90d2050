"""Training of MagicPortrait: data, both phases, evaluation. Run from the pack's folder: python -m training.<script>"""
