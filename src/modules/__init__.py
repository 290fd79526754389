"""What tasks build around a stack: embedding, pooling, heads, and the language model."""
