"""Stacks from and to other libraries: torch.nn, Keras, and graphs (torch.export, ONNX)."""
