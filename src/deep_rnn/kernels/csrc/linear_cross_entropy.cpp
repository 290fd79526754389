// The operator deep_rnn::linear_cross_entropy; its autograd is src/deep_rnn/kernels/linear_cross_entropy.py's.

#include "linear_cross_entropy.h"

#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "tensors.h"

namespace deep_rnn {
namespace {

using at::Tensor;

void check(const Tensor& hidden, const Tensor& weight, const Tensor& bias, const Tensor& targets) {
  for (const Tensor& tensor : {hidden, weight, bias})
    TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == weight.scalar_type(),
                "a softmax takes contiguous tensors of one dtype on the CPU");
  TORCH_CHECK(hidden.dim() == 2 && weight.dim() == 2 && weight.size(0) > 0 && hidden.size(1) == weight.size(1) &&
                  bias.sizes() == weight.sizes().slice(0, 1),
              "a softmax's tensors do not fit together: hidden ", hidden.sizes(), ", weight ", weight.sizes(), ", bias ", bias.sizes());
  TORCH_CHECK(targets.scalar_type() == at::kLong && targets.device().is_cpu() && targets.is_contiguous() &&
                  targets.sizes() == hidden.sizes().slice(0, 1),
              "targets must be int64 on the CPU, one a line; got ", targets.scalar_type(), " ", targets.sizes());
  const int64_t* target = targets.const_data_ptr<int64_t>();
  for (int64_t k = 0; k < targets.numel(); ++k)
    TORCH_CHECK(target[k] >= -1 && target[k] < weight.size(0), "target ", target[k], " is not one of ", weight.size(0),
                " classes, nor -1");
}

// Returns the sum of the losses, and its gradients by hidden, weight and bias, empty where they are not wanted.
std::tuple<Tensor, Tensor, Tensor, Tensor> linear_cross_entropy_cpu(const Tensor& hidden, const Tensor& weight, const Tensor& bias,
                                                                    const Tensor& targets, bool wants_hidden, bool wants_weight) {
  check(hidden, weight, bias, targets);
  const auto like = [&](const Tensor& tensor, bool wanted) {
    return empty(wanted ? tensor.sizes() : at::IntArrayRef{0}, tensor.options());
  };
  const Tensor loss = empty({}, hidden.options());
  const Tensor to_hidden = like(hidden, wants_hidden), to_weight = like(weight, wants_weight), to_bias = like(bias, wants_weight);
  AT_DISPATCH_FLOATING_TYPES(hidden.scalar_type(), "linear_cross_entropy", [&] {
    const LinearCrossEntropy<scalar_t> softmax{hidden.size(0), hidden.size(1), weight.size(0), hidden.const_data_ptr<scalar_t>(),
                                               weight.const_data_ptr<scalar_t>(), bias.const_data_ptr<scalar_t>(),
                                               targets.const_data_ptr<int64_t>()};
    LinearCrossEntropyGradients<scalar_t> grad;
    if (wants_hidden) grad.hidden = to_hidden.mutable_data_ptr<scalar_t>();
    if (wants_weight) grad.weight = to_weight.mutable_data_ptr<scalar_t>(), grad.bias = to_bias.mutable_data_ptr<scalar_t>();
    *loss.mutable_data_ptr<scalar_t>() = scalar_t(linear_cross_entropy(softmax, grad, torch_threads()));
  });
  return {loss, to_hidden, to_weight, to_bias};
}

}  // namespace
}  // namespace deep_rnn

TORCH_LIBRARY_FRAGMENT(deep_rnn, library) {
  library.def(
      "linear_cross_entropy(Tensor hidden, Tensor weight, Tensor bias, Tensor targets, bool wants_hidden, bool wants_weight) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(deep_rnn, CPU, library) { library.impl("linear_cross_entropy", TORCH_FN(deep_rnn::linear_cross_entropy_cpu)); }
