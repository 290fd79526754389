// The kernel core in float.
#include "registry_impl.h"

template const deep_rnn::CellKernel<float>* deep_rnn::find_cell<float>(const char*);
