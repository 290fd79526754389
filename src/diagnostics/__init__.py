"""What depth does: how gradients flow through layers and time, how far back a layer remembers, what it has learnt.

Each diagnostic looks at the model from outside at chosen moments and changes nothing of the training, to the last bit.
"""

from src.diagnostics.collection import Diagnostics

__all__ = ["Diagnostics"]
