"""Looking inside trained networks: activations, filters, and what in a picture speaks for a class (chapter 9.4).

Functions take any model that maps raw pixels (B, H, W, C) to logits and give arrays; `jaxvision.figures` draws them.
"""
