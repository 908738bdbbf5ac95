"""How rules are trained on heatmaps before they make masks: one file a rule, listed in `registry`.

The rules themselves are in `weakseg.masks.rules`, which knows nothing of torch.
"""
