// The operators deep_rnn::unroll and deep_rnn::unroll_backward: the kernel core behind torch's dispatcher.
//
// Everything may carry a leading group dimension K: K weight sets, each with a batch of its own. Lists run over layers,
// then directions, then what a cell has (states; w_ih, w_hh, b_ih, b_hh).

#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <torch/library.h>

#include <optional>

#include "registry.h"

namespace deep_rnn {
namespace {

using at::Tensor;
using at::TensorList;
using OptionalTensor = std::optional<Tensor>;
using Directions = std::vector<bool>;  // of a layer: is it the one that runs from the end?

Parallel torch_threads() {
  const auto run = [](int64_t count, const std::function<void(int64_t)>& job) {
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) job(i);
    });
  };
  return {at::in_parallel_region() ? 1 : at::get_num_threads(), run};
}

// The call's sizes, checked against all of its tensors: past this point nothing can reach outside an array.
struct Sizes {
  int64_t groups, steps, batch, layers, directions, states, weights_each;
  bool grouped;
  std::vector<int64_t> inputs, hiddens;  // per layer

  int64_t place(int64_t layer, int64_t direction) const { return layer * directions + direction; }
};

// A tensor in memory that is used again.
Tensor empty(const std::vector<int64_t>& sizes, const at::TensorOptions& options) {
  const size_t bytes = c10::multiply_integers(sizes) * options.dtype().itemsize();
  void* block = Pool::instance().take(bytes);
  return at::from_blob(block, sizes, [bytes](void* data) { Pool::instance().give(data, bytes); }, options);
}

template <class T>
const CellKernel<T>& cell_named(const std::string& name) {
  const CellKernel<T>* cell = find_cell<T>(name.c_str());
  TORCH_CHECK(cell, "the fused backend has no cell ", name);
  return *cell;
}

std::vector<int64_t> shape(const Sizes& sizes, std::vector<int64_t> rest) {
  if (sizes.grouped) rest.insert(rest.begin(), sizes.groups);
  return rest;
}

void check(const Tensor& tensor, const Tensor& x, const Sizes& sizes, std::vector<int64_t> rest, const char* what) {
  const auto expected = shape(sizes, std::move(rest));
  TORCH_CHECK(tensor.sizes() == at::IntArrayRef(expected), what, " has shape ", tensor.sizes(), ", expected ", at::IntArrayRef(expected));
  TORCH_CHECK(tensor.scalar_type() == x.scalar_type(), what, " is ", tensor.scalar_type(), ", x is ", x.scalar_type());
  TORCH_CHECK(tensor.device().is_cpu(), what, " is on ", tensor.device(), ", expected the CPU");
}

template <class T>
Sizes measure(const CellKernel<T>& cell, const Tensor& x, const OptionalTensor& lengths, size_t states, TensorList weights,
              TensorList masks, const Directions& reverse) {
  Sizes sizes;
  sizes.directions = int64_t(reverse.size());
  sizes.states = cell.states;
  TORCH_CHECK(sizes.directions > 0 && states > 0 && states % (sizes.directions * cell.states) == 0, "got ", states,
              " states for ", sizes.directions, " directions");
  sizes.layers = int64_t(states) / (sizes.directions * cell.states);
  const int64_t places = sizes.layers * sizes.directions;
  TORCH_CHECK(int64_t(weights.size()) == 2 * places || int64_t(weights.size()) == 4 * places, "got ", weights.size(),
              " weights for ", places, " cells, expected w_ih, w_hh and perhaps b_ih, b_hh of each");
  TORCH_CHECK(masks.empty() || int64_t(masks.size()) == places, "got ", masks.size(), " masks for ", places, " cells");
  sizes.weights_each = int64_t(weights.size()) / places;
  sizes.grouped = weights[0].dim() == 3;
  TORCH_CHECK(x.dim() == (sizes.grouped ? 4 : 3), "x has shape ", x.sizes(), ", expected ", sizes.grouped ? "[K, T, B, I]" : "[T, B, I]");
  sizes.groups = sizes.grouped ? x.size(0) : 1;
  sizes.steps = x.size(-3), sizes.batch = x.size(-2);
  int64_t input = x.size(-1);
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const Tensor& first = weights[sizes.place(layer, 0) * sizes.weights_each + 1];
    TORCH_CHECK(first.dim() >= 2, "w_hh has shape ", first.sizes());
    const int64_t hidden = first.size(-1);
    for (int64_t direction = 0; direction < sizes.directions; ++direction) {
      const int64_t place = sizes.place(layer, direction);
      const Tensor* w = &weights[place * sizes.weights_each];
      check(w[0], x, sizes, {cell.inputs * hidden, input}, "w_ih");
      check(w[1], x, sizes, {cell.products * hidden, hidden}, "w_hh");
      if (sizes.weights_each == 4) check(w[2], x, sizes, {cell.inputs * hidden}, "b_ih");
      if (sizes.weights_each == 4) check(w[3], x, sizes, {cell.products * hidden}, "b_hh");
      if (!masks.empty()) check(masks[place], x, sizes, {sizes.batch, hidden}, "a mask");
    }
    sizes.inputs.push_back(input), sizes.hiddens.push_back(hidden);
    input = hidden * sizes.directions;
  }
  if (lengths) {
    TORCH_CHECK(lengths->sizes() == at::IntArrayRef(shape(sizes, {sizes.batch})) && lengths->scalar_type() == at::kLong &&
                    lengths->device().is_cpu(),
                "lengths must be int64 on the CPU, one a column; got ", lengths->scalar_type(), " ", lengths->sizes());
  }
  return sizes;
}

// One timeline a group, or one for all when every column has all the steps.
std::vector<Timeline> timelines(const Sizes& sizes, const OptionalTensor& lengths) {
  if (!lengths) return {Timeline(sizes.steps, sizes.batch, nullptr)};
  const Tensor values = lengths->contiguous();
  const int64_t* from = values.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < values.numel(); ++i)
    TORCH_CHECK(from[i] >= 0 && from[i] <= sizes.steps, "length ", from[i], " is not in 0 ... ", sizes.steps);
  std::vector<Timeline> all;
  for (int64_t k = 0; k < sizes.groups; ++k) all.emplace_back(sizes.steps, sizes.batch, from + k * sizes.batch);
  return all;
}

// Group k of a contiguous tensor; null for none.
template <class T>
T* group(const Tensor& tensor, const Sizes& sizes, int64_t k) {
  if (!tensor.defined()) return nullptr;
  return const_cast<T*>(tensor.const_data_ptr<T>()) + (sizes.grouped ? k * tensor.stride(0) : 0);
}

// Group k of [K, T, B, features], a direction's part of the features.
template <class T>
Sequence<T> sequence(const Tensor& tensor, const Sizes& sizes, int64_t k, int64_t offset = 0) {
  if (!tensor.defined()) return {};
  auto* data = const_cast<std::remove_const_t<T>*>(tensor.const_data_ptr<std::remove_const_t<T>>());
  return {data + (sizes.grouped ? k * tensor.stride(0) : 0) + offset, tensor.stride(-3), tensor.stride(-2)};
}

Tensor with_dense_features(const Tensor& tensor) { return tensor.stride(-1) == 1 || tensor.size(-1) == 1 ? tensor : tensor.contiguous(); }

std::vector<Tensor> contiguous(TensorList tensors) {
  std::vector<Tensor> out;
  for (const Tensor& tensor : tensors) out.push_back(tensor.contiguous());
  return out;
}

template <class T>
Pass<T> pass_of(const Sizes& sizes, const std::vector<Timeline>& times, const Directions& reverse, const Tensor& x,
                const std::vector<Tensor>& weights, const std::vector<Tensor>& masks, const Tensor& saved, int64_t layer,
                int64_t direction, int64_t k) {
  const int64_t place = sizes.place(layer, direction);
  const Tensor* w = &weights[place * sizes.weights_each];
  const bool biases = sizes.weights_each == 4;
  Pass<T> pass;
  pass.timeline = &times[times.size() > 1 ? k : 0];
  pass.reverse = reverse[direction];
  pass.input = sizes.inputs[layer], pass.hidden = sizes.hiddens[layer];
  pass.x = sequence<const T>(x, sizes, k);
  pass.w_ih = group<T>(w[0], sizes, k), pass.w_hh = group<T>(w[1], sizes, k);
  pass.b_ih = biases ? group<T>(w[2], sizes, k) : nullptr, pass.b_hh = biases ? group<T>(w[3], sizes, k) : nullptr;
  pass.mask = masks.empty() ? nullptr : group<T>(masks[place], sizes, k);
  pass.saved = group<T>(saved, sizes, k);
  return pass;
}

// Returns the output, the last states, and what the backward needs: per cell its saved blocks, then the inputs of all layers but the first.
template <class T>
std::vector<Tensor> unroll_typed(const Tensor& x, const OptionalTensor& lengths, TensorList initial, TensorList weights_in,
                                 TensorList masks_in, const std::string& name, const Directions& reverse, bool save) {
  const CellKernel<T>& cell = cell_named<T>(name);
  const Sizes sizes = measure<T>(cell, x, lengths, initial.size(), weights_in, masks_in, reverse);
  const std::vector<Timeline> times = timelines(sizes, lengths);
  const std::vector<Tensor> weights = contiguous(weights_in), masks = contiguous(masks_in), before = contiguous(initial);
  std::vector<Tensor> after, saved, inputs{with_dense_features(x)};
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const int64_t hidden = sizes.hiddens[layer];
    const Tensor output = empty(shape(sizes, {sizes.steps, sizes.batch, sizes.directions * hidden}), x.options());
    std::vector<Forward<T>> passes;
    for (int64_t direction = 0; direction < sizes.directions; ++direction) {
      const int64_t first = sizes.place(layer, direction) * sizes.states;
      for (int64_t i = first; i < first + sizes.states; ++i) {
        check(before[i], x, sizes, {sizes.batch, hidden}, "a state");
        after.push_back(at::empty_like(before[i]));
      }
      Tensor activations;
      if (save) {
        activations = empty(shape(sizes, {sizes.steps * sizes.batch, cell.saved_blocks * hidden}), x.options());
        saved.push_back(activations);
      }
      for (int64_t k = 0; k < sizes.groups; ++k) {
        Forward<T> pass{pass_of<T>(sizes, times, reverse, inputs.back(), weights, masks, activations, layer, direction, k)};
        for (int64_t i = 0; i < sizes.states; ++i) {
          pass.initial[i] = group<T>(before[first + i], sizes, k);
          pass.final[i] = group<T>(after[first + i], sizes, k);
        }
        pass.output = sequence<T>(output, sizes, k, direction * hidden);
        passes.push_back(pass);
      }
    }
    cell.forward(passes, torch_threads());
    inputs.push_back(output);
  }
  std::vector<Tensor> results{inputs.back()};
  results.insert(results.end(), after.begin(), after.end());
  results.insert(results.end(), saved.begin(), saved.end());
  if (save) results.insert(results.end(), inputs.begin() + 1, inputs.end() - 1);
  return results;
}

// Returns the wanted gradients in order: of x, of each initial state, of each weight.
template <class T>
std::vector<Tensor> unroll_backward_typed(const Tensor& grad_output, TensorList grad_final_in, const Tensor& x,
                                          const OptionalTensor& lengths, TensorList weights_in, TensorList masks_in,
                                          TensorList saved, const std::string& name, const Directions& reverse, bool wants_x,
                                          bool wants_states, bool wants_weights) {
  const CellKernel<T>& cell = cell_named<T>(name);
  const Sizes sizes = measure<T>(cell, x, lengths, grad_final_in.size(), weights_in, masks_in, reverse);
  const std::vector<Timeline> times = timelines(sizes, lengths);
  const std::vector<Tensor> weights = contiguous(weights_in), masks = contiguous(masks_in), grad_final = contiguous(grad_final_in);
  const int64_t places = sizes.layers * sizes.directions;
  TORCH_CHECK(int64_t(saved.size()) == places + sizes.layers - 1, "got ", saved.size(), " saved tensors");
  check(grad_output, x, sizes, {sizes.steps, sizes.batch, sizes.directions * sizes.hiddens.back()}, "the output's gradient");

  std::vector<Tensor> grad_initial, grad_weights;
  for (const Tensor& g : grad_final) grad_initial.push_back(wants_states ? at::empty_like(g) : Tensor());
  for (const Tensor& w : weights) grad_weights.push_back(wants_weights ? at::empty_like(w) : Tensor());

  Tensor grad = with_dense_features(grad_output);
  for (int64_t layer = sizes.layers - 1; layer >= 0; --layer) {
    const int64_t hidden = sizes.hiddens[layer], input = sizes.inputs[layer];
    const Tensor from = layer ? saved[places + layer - 1] : with_dense_features(x);
    std::vector<Tensor> grad_x(sizes.directions);
    std::vector<Backward<T>> passes;
    for (int64_t direction = 0; direction < sizes.directions; ++direction) {
      const int64_t place = sizes.place(layer, direction);
      check(saved[place], x, sizes, {sizes.steps * sizes.batch, cell.saved_blocks * hidden}, "a saved tensor");
      if (layer || wants_x) grad_x[direction] = empty(shape(sizes, {sizes.steps, sizes.batch, input}), x.options());
      for (int64_t k = 0; k < sizes.groups; ++k) {
        Backward<T> pass{pass_of<T>(sizes, times, reverse, from, weights, masks, saved[place], layer, direction, k)};
        for (int64_t i = 0; i < sizes.states; ++i) {
          check(grad_final[place * sizes.states + i], x, sizes, {sizes.batch, hidden}, "a state's gradient");
          pass.grad_final[i] = group<T>(grad_final[place * sizes.states + i], sizes, k);
          pass.grad_initial[i] = group<T>(grad_initial[place * sizes.states + i], sizes, k);
        }
        pass.grad_output = sequence<const T>(grad, sizes, k, direction * hidden);
        pass.grad_x = sequence<T>(grad_x[direction], sizes, k);
        const Tensor* g = &grad_weights[place * sizes.weights_each];
        const bool biases = sizes.weights_each == 4;
        pass.grad_w_ih = group<T>(g[0], sizes, k), pass.grad_w_hh = group<T>(g[1], sizes, k);
        pass.grad_b_ih = biases ? group<T>(g[2], sizes, k) : nullptr, pass.grad_b_hh = biases ? group<T>(g[3], sizes, k) : nullptr;
        passes.push_back(pass);
      }
    }
    cell.backward(passes, torch_threads());
    grad = grad_x[0];
    for (int64_t direction = 1; direction < sizes.directions && grad.defined(); ++direction) grad.add_(grad_x[direction]);
  }
  std::vector<Tensor> results;
  if (wants_x) results.push_back(grad);
  if (wants_states) results.insert(results.end(), grad_initial.begin(), grad_initial.end());
  if (wants_weights) results.insert(results.end(), grad_weights.begin(), grad_weights.end());
  return results;
}

Directions directions_of(const c10::List<bool>& reverse) { return {reverse.begin(), reverse.end()}; }

std::vector<Tensor> unroll_cpu(const Tensor& x, const OptionalTensor& lengths, TensorList initial, TensorList weights,
                               TensorList masks, const std::string& cell, const c10::List<bool>& reverse, bool save) {
  const auto typed = x.scalar_type() == at::kDouble ? unroll_typed<double> : unroll_typed<float>;
  return typed(x, lengths, initial, weights, masks, cell, directions_of(reverse), save);
}

std::vector<Tensor> unroll_backward_cpu(const Tensor& grad_output, TensorList grad_final, const Tensor& x,
                                        const OptionalTensor& lengths, TensorList weights, TensorList masks, TensorList saved,
                                        const std::string& cell, const c10::List<bool>& reverse, bool wants_x, bool wants_states,
                                        bool wants_weights) {
  const auto typed = x.scalar_type() == at::kDouble ? unroll_backward_typed<double> : unroll_backward_typed<float>;
  return typed(grad_output, grad_final, x, lengths, weights, masks, saved, cell, directions_of(reverse), wants_x, wants_states,
               wants_weights);
}

int64_t saved_blocks(const std::string& cell) { return cell_named<float>(cell).saved_blocks; }
int64_t states(const std::string& cell) { return cell_named<float>(cell).states; }

}  // namespace
}  // namespace deep_rnn

TORCH_LIBRARY(deep_rnn, library) {
  library.def(
      "unroll(Tensor x, Tensor? lengths, Tensor[] initial, Tensor[] weights, Tensor[] masks, str cell, bool[] reverse, bool save)"
      " -> Tensor[]");
  library.def(
      "unroll_backward(Tensor grad_output, Tensor[] grad_final, Tensor x, Tensor? lengths, Tensor[] weights, Tensor[] masks, "
      "Tensor[] saved, str cell, bool[] reverse, bool wants_x, bool wants_states, bool wants_weights) -> Tensor[]");
  library.def("saved_blocks(str cell) -> int", &deep_rnn::saved_blocks);
  library.def("states(str cell) -> int", &deep_rnn::states);
}

TORCH_LIBRARY_IMPL(deep_rnn, CPU, library) {
  library.impl("unroll", TORCH_FN(deep_rnn::unroll_cpu));
  library.impl("unroll_backward", TORCH_FN(deep_rnn::unroll_backward_cpu));
}
