"""deep-rnn: deep recurrent networks in PyTorch, their training, and sweeps over them."""
