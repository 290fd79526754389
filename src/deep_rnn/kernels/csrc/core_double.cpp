// The kernel core in double.
#include "registry_impl.h"

template const deep_rnn::CellKernel<double>* deep_rnn::find_cell<double>(const char*);
