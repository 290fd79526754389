"""deep-rnn: deep recurrent networks in PyTorch, their training, and sweeps over them."""

import os

# OpenMP's threads spin while they wait, and those of two trainings on the same cores spin against each other: each then
# takes many times as long. GNU's OpenMP reads this as it is loaded, so it must stand before anything imports torch.
# Here, because this file is the first of the program in every process, also in those of launchers on other machines.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = "1000"
