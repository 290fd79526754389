// The operators deep_rnn::highway and deep_rnn::highway_backward; their autograd is src/deep_rnn/kernels/highway.py's.

#include "highway.h"

#include <ATen/Dispatch.h>
#include <torch/library.h>

#include "tensors.h"

namespace deep_rnn {
namespace {

using at::Tensor;

template <class T>
HighwayLink<T> link_of(const Tensor& carried, const Tensor& out, const Tensor& below, const Tensor& weight, const Tensor& gate) {
  const int64_t input = weight.size(1), width = weight.size(0), count = input ? below.numel() / input : 0;
  for (const Tensor& tensor : {carried, out, below, weight, gate})
    TORCH_CHECK(tensor.device().is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == weight.scalar_type(),
                "a highway link takes contiguous tensors of one dtype on the CPU");
  TORCH_CHECK(below.size(-1) == input && carried.numel() == count * width && out.numel() == count * width && gate.numel() == count * width,
              "a highway link's tensors do not fit together: below ", below.sizes(), ", carried ", carried.sizes(), ", out ", out.sizes(),
              ", weight ", weight.sizes());
  return {count, input, width, carried.const_data_ptr<T>(), out.const_data_ptr<T>(), below.const_data_ptr<T>(), weight.const_data_ptr<T>(),
          const_cast<T*>(gate.const_data_ptr<T>())};
}

// Returns y and the gate t.
std::tuple<Tensor, Tensor> highway_cpu(const Tensor& carried, const Tensor& out, const Tensor& below, const Tensor& weight,
                                       const Tensor& bias) {
  const Tensor y = empty(out.sizes(), out.options()), gate = empty(out.sizes(), out.options()), b = bias.contiguous();
  TORCH_CHECK(b.dim() == 1 && b.size(0) == weight.size(0) && b.scalar_type() == weight.scalar_type(), "the gate's bias is ", b.sizes());
  AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "highway", [&] {
    const auto link = link_of<scalar_t>(carried, out, below, weight, gate);
    highway_forward(link, b.const_data_ptr<scalar_t>(), y.mutable_data_ptr<scalar_t>(), torch_threads());
  });
  return {y, gate};
}

// Returns the gradients of carried, out, below (undefined unless wanted), weight and bias.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> highway_backward_cpu(const Tensor& grad, const Tensor& carried, const Tensor& out,
                                                                        const Tensor& below, const Tensor& weight, const Tensor& gate,
                                                                        bool wants_below) {
  const Tensor g = grad.contiguous();
  TORCH_CHECK(g.sizes() == out.sizes() && g.scalar_type() == out.scalar_type(), "the gradient of a highway link is ", g.sizes());
  const Tensor to_carried = empty(out.sizes(), out.options()), to_out = empty(out.sizes(), out.options());
  const Tensor to_below = empty(wants_below ? below.sizes() : at::IntArrayRef{0}, out.options());
  const Tensor to_weight = empty(weight.sizes(), weight.options()), to_bias = empty(weight.sizes().slice(0, 1), weight.options());
  AT_DISPATCH_FLOATING_TYPES(out.scalar_type(), "highway_backward", [&] {
    const auto link = link_of<scalar_t>(carried, out, below, weight, gate);
    const HighwayGradients<scalar_t> gradients{g.const_data_ptr<scalar_t>(), to_carried.mutable_data_ptr<scalar_t>(),
                                               to_out.mutable_data_ptr<scalar_t>(),
                                               wants_below ? to_below.mutable_data_ptr<scalar_t>() : nullptr,
                                               to_weight.mutable_data_ptr<scalar_t>(), to_bias.mutable_data_ptr<scalar_t>()};
    highway_backward(link, gradients, torch_threads());
  });
  return {to_carried, to_out, to_below, to_weight, to_bias};
}

}  // namespace
}  // namespace deep_rnn

TORCH_LIBRARY_FRAGMENT(deep_rnn, library) {
  library.def("highway(Tensor carried, Tensor out, Tensor below, Tensor weight, Tensor bias) -> (Tensor, Tensor)");
  library.def(
      "highway_backward(Tensor grad, Tensor carried, Tensor out, Tensor below, Tensor weight, Tensor gate, bool wants_below) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(deep_rnn, CPU, library) {
  library.impl("highway", TORCH_FN(deep_rnn::highway_cpu));
  library.impl("highway_backward", TORCH_FN(deep_rnn::highway_backward_cpu));
}
