// The operators deep_rnn::unroll and deep_rnn::unroll_backward: the kernel core behind torch's dispatcher.
//
// Everything may carry a leading group dimension K: K weight sets, each with a batch of its own. Lists run over layers,
// then directions, then what a cell has (states; the parameters named in `names`).

#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <optional>

#include "parameters.h"
#include "registry.h"
#include "tensors.h"

namespace deep_rnn {
namespace {

using at::Tensor;
using at::TensorList;
using OptionalTensor = std::optional<Tensor>;
using Directions = std::vector<bool>;  // of a layer: is it the one that runs from the end?
using Names = std::vector<std::string>;

// What an operator is asked to run, beside x, states and weights.
struct Plan {
  std::string cell;
  Names names;                               // of a cell's weights
  std::vector<double> constants, zoneout;    // of the cell's equations; a probability a field of the state, or none
  Directions reverse;
  std::vector<Tensor> masks, drops, zones;   // noise: on h, on the candidate, and per cell and field with zoneout what stays
  std::vector<Tensor> between;               // dropout: [T, B, D*H] of every layer but the last, times its output; or none

  int64_t zoned_fields() const { return std::count_if(zoneout.begin(), zoneout.end(), [](double rate) { return rate > 0; }); }
};

// The call's sizes, checked against all of its tensors: past this point nothing can reach outside an array.
struct Sizes {
  int64_t groups, steps, batch, layers, directions, states, weights_each;
  bool grouped;
  std::vector<int64_t> inputs, hiddens;  // per layer

  int64_t place(int64_t layer, int64_t direction) const { return layer * directions + direction; }
};

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

// Every parameter that the cell cannot do without is named, and none that it does not have.
void check_names(const CellShape& cell, const Plan& plan) {
  TORCH_CHECK(!plan.names.empty() && plan.names[0] == "weight_ih", "the first weight of a cell is weight_ih");
  const int64_t levels = count_levels(plan.names);
  TORCH_CHECK(levels <= 64, "a step has at most 64 transitions");
  const auto need = [&](const std::string& name) { TORCH_CHECK(names_one(plan.names, name.c_str()), plan.cell, " needs ", name); };
  for (const std::string& name : plan.names) {
    const ParameterName parsed(name);
    TORCH_CHECK(parsed.level >= 0 && !parameter_shape(cell, parsed, 1, 1).empty(), plan.cell, " has no ", name);
  }
  for (int64_t level = 0; level < levels; ++level) {
    const std::string suffix = level ? "_" + std::to_string(level + 1) : "";
    if (cell.products) need(cell.matrix + suffix);
    if (cell.middle_matrix) need(cell.middle_matrix + suffix);
    if (names_one(plan.names, "norm_hh.weight")) need("norm_hh" + suffix + ".weight");
    if (cell.middle == Middle::norm) need("norms." + std::to_string(level) + ".weight");
  }
  for (int i = 0; i < cell.vectors; ++i) need(cell.vector_names[i]);
  TORCH_CHECK(plan.constants.size() <= kMostConstants, "got ", plan.constants.size(), " constants");
  TORCH_CHECK(plan.zoneout.empty() || int64_t(plan.zoneout.size()) == cell.states, "got ", plan.zoneout.size(),
              " zoneout rates for ", cell.states, " fields");
}

template <class T>
Sizes measure(const CellKernel<T>& kernel, const Plan& plan, const Tensor& x, const OptionalTensor& lengths, size_t states,
              TensorList weights) {
  const CellShape& cell = kernel.shape;
  Sizes sizes;
  sizes.directions = int64_t(plan.reverse.size());
  sizes.states = cell.states;
  TORCH_CHECK(sizes.directions > 0 && states > 0 && states % (sizes.directions * cell.states) == 0, "got ", states,
              " states for ", sizes.directions, " directions");
  sizes.layers = int64_t(states) / (sizes.directions * cell.states);
  const int64_t places = sizes.layers * sizes.directions;
  sizes.weights_each = int64_t(plan.names.size());
  TORCH_CHECK(int64_t(weights.size()) == sizes.weights_each * places, "got ", weights.size(), " weights for ", places,
              " cells, expected ", plan.names, " of each");
  check_names(cell, plan);
  TORCH_CHECK(plan.masks.empty() || int64_t(plan.masks.size()) == places, "got ", plan.masks.size(), " masks for ", places, " cells");
  TORCH_CHECK(plan.drops.empty() || int64_t(plan.drops.size()) == places, "got ", plan.drops.size(),
              " masks of the candidate for ", places, " cells");
  TORCH_CHECK(plan.between.empty() || int64_t(plan.between.size()) == sizes.layers - 1, "got ", plan.between.size(),
              " masks between ", sizes.layers, " layers");
  const int64_t zones = places * plan.zoned_fields();
  TORCH_CHECK(plan.zones.empty() || int64_t(plan.zones.size()) == zones, "got ", plan.zones.size(), " zones, expected ", zones);
  sizes.grouped = weights[0].dim() == 3;
  TORCH_CHECK(x.dim() == (sizes.grouped ? 4 : 3), "x has shape ", x.sizes(), ", expected ", sizes.grouped ? "[K, T, B, I]" : "[T, B, I]");
  sizes.groups = sizes.grouped ? x.size(0) : 1;
  sizes.steps = x.size(-3), sizes.batch = x.size(-2);
  for (const Tensor& zone : plan.zones)
    TORCH_CHECK(zone.scalar_type() == at::kBool && zone.device().is_cpu(), "a zone is ", zone.scalar_type(), ", expected bool");
  int64_t input = x.size(-1);
  TORCH_CHECK(input > 0, "x has no features");
  for (int64_t layer = 0; layer < sizes.layers; ++layer) {
    const Tensor& first = weights[sizes.place(layer, 0) * sizes.weights_each];
    TORCH_CHECK(first.dim() >= 2, "weight_ih has shape ", first.sizes());
    const int64_t hidden = first.size(-2) / cell.projected();
    TORCH_CHECK(hidden > 0, "a layer has no units");
    TORCH_CHECK(!cell.reads_x || input == hidden, plan.cell, " reads ", input, " inputs, expected as many as its width, ", hidden);
    for (int64_t direction = 0; direction < sizes.directions; ++direction) {
      const int64_t place = sizes.place(layer, direction);
      for (int64_t i = 0; i < sizes.weights_each; ++i)
        check(weights[place * sizes.weights_each + i], x, sizes, parameter_shape(cell, ParameterName(plan.names[i]), input, hidden),
              plan.names[i].c_str());
      if (!plan.masks.empty()) check(plan.masks[place], x, sizes, {sizes.batch, hidden}, "a mask");
      if (!plan.drops.empty()) check(plan.drops[place], x, sizes, {sizes.batch, hidden}, "a mask of the candidate");
      for (int64_t i = 0; !plan.zones.empty() && i < plan.zoned_fields(); ++i) {
        const auto expected = shape(sizes, {sizes.steps, sizes.batch, hidden});
        const Tensor& zone = plan.zones[place * plan.zoned_fields() + i];
        TORCH_CHECK(zone.sizes() == at::IntArrayRef(expected), "a zone has shape ", zone.sizes(), ", expected ", at::IntArrayRef(expected));
      }
    }
    sizes.inputs.push_back(input), sizes.hiddens.push_back(hidden);
    input = hidden * sizes.directions;
    if (!plan.between.empty() && layer + 1 < sizes.layers)
      check(plan.between[layer], x, sizes, {sizes.steps, sizes.batch, input}, "a mask between layers");
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

Tensor with_dense_features(const Tensor& tensor) {
  if (tensor.stride(-1) == 1 || tensor.size(-1) == 1) return tensor;
  Tensor dense = empty(tensor.sizes(), tensor.options());
  return dense.copy_(tensor);
}

std::vector<Tensor> contiguous(TensorList tensors) {
  std::vector<Tensor> out;
  for (const Tensor& tensor : tensors) out.push_back(tensor.contiguous());
  return out;
}

// Group k of a cell's parameters; of their gradients, where P points at what may be written.
template <class P>
ParameterSlots<P> slots(const CellShape& cell, const Plan& plan, const Sizes& sizes, const std::vector<Tensor>& tensors, int64_t place,
                        int64_t layer, int64_t k) {
  using T = std::remove_cv_t<std::remove_pointer_t<P>>;
  ParameterSlots<P> all(count_levels(plan.names));
  for (int64_t i = 0; i < sizes.weights_each; ++i) {
    P data = group<T>(tensors[place * sizes.weights_each + i], sizes, k);
    if (data) all.set(cell, ParameterName(plan.names[i]), sizes.hiddens[layer], data);
  }
  return all;
}

template <class T>
Pass<T> pass_of(const CellShape& cell, const Plan& plan, const Sizes& sizes, const std::vector<Timeline>& times, const Tensor& x,
                const std::vector<Tensor>& weights, const Tensor& saved, int64_t layer, int64_t direction, int64_t k) {
  const int64_t place = sizes.place(layer, direction);
  Pass<T> pass{};
  pass.timeline = &times[times.size() > 1 ? k : 0];
  pass.reverse = plan.reverse[direction];
  pass.input = sizes.inputs[layer], pass.hidden = sizes.hiddens[layer];
  pass.x = sequence<const T>(x, sizes, k);
  auto parameters = slots<const T*>(cell, plan, sizes, weights, place, layer, k);
  pass.w_ih = parameters.w_ih, pass.b_ih = parameters.b_ih;
  pass.w_hh = parameters.more.levels[0].w_hh, pass.b_hh = parameters.more.levels[0].b_hh;
  pass.more = std::move(parameters.more);
  pass.mask = plan.masks.empty() ? nullptr : group<T>(plan.masks[place], sizes, k);
  pass.drop = plan.drops.empty() ? nullptr : group<T>(plan.drops[place], sizes, k);
  std::copy(plan.constants.begin(), plan.constants.end(), pass.constants.begin());
  std::copy(plan.zoneout.begin(), plan.zoneout.end(), pass.zone_rates);
  for (int64_t field = 0, zone = place * plan.zoned_fields(); !plan.zones.empty() && field < sizes.states; ++field)
    if (plan.zoneout[field] > 0) pass.zones[field] = group<bool>(plan.zones[zone++], sizes, k);
  pass.saved = group<T>(saved, sizes, k);
  return pass;
}

// Returns the output, the last states, and what the backward needs: per cell its saved blocks, then the inputs of all layers but the first.
template <class T>
std::vector<Tensor> unroll_typed(const Tensor& x, const OptionalTensor& lengths, TensorList initial, TensorList weights_in,
                                 const Plan& plan, bool save) {
  const CellKernel<T>& cell = cell_named<T>(plan.cell);
  const Sizes sizes = measure<T>(cell, plan, x, lengths, initial.size(), weights_in);
  const std::vector<Timeline> times = timelines(sizes, lengths);
  const std::vector<Tensor> weights = contiguous(weights_in), before = contiguous(initial);
  std::vector<Tensor> after, saved, inputs{with_dense_features(x)};
  Layers<Forward<T>> layers;
  const auto saved_line = [&](int64_t layer) { return layout_of(cell.shape, plan.names, sizes.hiddens[layer]).size; };
  int64_t saved_bytes = 0;
  for (int64_t layer = 0; save && layer < sizes.layers; ++layer)
    saved_bytes += sizes.groups * sizes.steps * sizes.batch * sizes.directions * saved_line(layer) * int64_t(sizeof(T));
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
        activations = empty(shape(sizes, {sizes.steps * sizes.batch, saved_line(layer)}), x.options());
        saved.push_back(activations);
      }
      for (int64_t k = 0; k < sizes.groups; ++k) {
        Forward<T> pass{pass_of<T>(cell.shape, plan, sizes, times, inputs.back(), weights, activations, layer, direction, k)};
        for (int64_t i = 0; i < sizes.states; ++i) {
          pass.initial[i] = group<T>(before[first + i], sizes, k);
          pass.final[i] = group<T>(after[first + i], sizes, k);
        }
        pass.output = sequence<T>(output, sizes, k, direction * hidden);
        pass.streams = saved_bytes > kMostSavedInCache;
        passes.push_back(pass);
      }
    }
    layers.push_back(std::move(passes));
    inputs.push_back(output);
    const bool drops = !plan.between.empty() && layer + 1 < sizes.layers;
    if (sizes.directions > 1 || drops || layer + 1 == sizes.layers) {  // both directions of a layer read both of the layer below
      cell.forward(layers, torch_threads());
      layers.clear();
    }
    if (drops) output.mul_(plan.between[layer]);  // nobody reads what was dropped: the states before each step lie in `saved`
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
                                          const OptionalTensor& lengths, TensorList weights_in, TensorList saved,
                                          const Plan& plan, bool wants_x, bool wants_states, bool wants_weights) {
  const CellKernel<T>& cell = cell_named<T>(plan.cell);
  const Sizes sizes = measure<T>(cell, plan, x, lengths, grad_final_in.size(), weights_in);
  const std::vector<Timeline> times = timelines(sizes, lengths);
  const std::vector<Tensor> weights = contiguous(weights_in), grad_final = contiguous(grad_final_in);
  const int64_t places = sizes.layers * sizes.directions;
  TORCH_CHECK(int64_t(saved.size()) == places + sizes.layers - 1, "got ", saved.size(), " saved tensors");
  check(grad_output, x, sizes, {sizes.steps, sizes.batch, sizes.directions * sizes.hiddens.back()}, "the output's gradient");

  std::vector<Tensor> grad_initial, grad_weights;
  for (const Tensor& g : grad_final) grad_initial.push_back(wants_states ? at::empty_like(g) : Tensor());
  for (const Tensor& w : weights) grad_weights.push_back(wants_weights ? empty(w.sizes(), w.options()) : Tensor());

  Tensor grad = with_dense_features(grad_output);
  Layers<Backward<T>> layers;
  std::vector<Tensor> grads{grad};  // from the top down: what `layers` points at
  for (int64_t layer = sizes.layers - 1; layer >= 0; --layer) {
    const int64_t hidden = sizes.hiddens[layer], input = sizes.inputs[layer];
    const Tensor from = layer ? saved[places + layer - 1] : with_dense_features(x);
    std::vector<Tensor> grad_x(sizes.directions);
    std::vector<Backward<T>> passes;
    for (int64_t direction = 0; direction < sizes.directions; ++direction) {
      const int64_t place = sizes.place(layer, direction);
      check(saved[place], x, sizes, {sizes.steps * sizes.batch, layout_of(cell.shape, plan.names, hidden).size}, "a saved tensor");
      if (layer || wants_x) grad_x[direction] = empty(shape(sizes, {sizes.steps, sizes.batch, input}), x.options());
      for (int64_t k = 0; k < sizes.groups; ++k) {
        Backward<T> pass{pass_of<T>(cell.shape, plan, sizes, times, from, weights, saved[place], layer, direction, k)};
        for (int64_t i = 0; i < sizes.states; ++i) {
          check(grad_final[place * sizes.states + i], x, sizes, {sizes.batch, hidden}, "a state's gradient");
          pass.grad_final[i] = group<T>(grad_final[place * sizes.states + i], sizes, k);
          pass.grad_initial[i] = group<T>(grad_initial[place * sizes.states + i], sizes, k);
        }
        pass.grad_output = sequence<const T>(grad, sizes, k, direction * hidden);
        pass.grad_x = sequence<T>(grad_x[direction], sizes, k);
        auto grads = slots<T*>(cell.shape, plan, sizes, grad_weights, place, layer, k);
        pass.grad_w_ih = grads.w_ih, pass.grad_b_ih = grads.b_ih;
        pass.grad_w_hh = grads.more.levels[0].w_hh, pass.grad_b_hh = grads.more.levels[0].b_hh;
        pass.grad_more = std::move(grads.more);
        passes.push_back(pass);
      }
    }
    layers.insert(layers.begin(), std::move(passes));
    if (sizes.directions > 1 || !plan.between.empty() || layer == 0) {
      cell.backward(layers, torch_threads());
      layers.clear();
    }
    grads.push_back(grad = grad_x[0]);
    for (int64_t direction = 1; direction < sizes.directions && grad.defined(); ++direction) grad.add_(grad_x[direction]);
    if (layer && !plan.between.empty()) grad.mul_(plan.between[layer - 1]);
  }
  std::vector<Tensor> results;
  if (wants_x) results.push_back(grad);
  if (wants_states) results.insert(results.end(), grad_initial.begin(), grad_initial.end());
  if (wants_weights) results.insert(results.end(), grad_weights.begin(), grad_weights.end());
  return results;
}

Plan plan_of(TensorList masks, TensorList drops, TensorList zones, TensorList between, const std::string& cell, const c10::List<std::string>& names,
             at::ArrayRef<double> constants, at::ArrayRef<double> zoneout, const c10::List<bool>& reverse) {
  return {cell, {names.begin(), names.end()}, constants.vec(), zoneout.vec(), {reverse.begin(), reverse.end()},
          contiguous(masks), contiguous(drops), contiguous(zones), contiguous(between)};
}

std::vector<Tensor> unroll_cpu(const Tensor& x, const OptionalTensor& lengths, TensorList initial, TensorList weights, TensorList masks,
                               TensorList drops, TensorList zones, TensorList between, const std::string& cell,
                               const c10::List<std::string>& names, at::ArrayRef<double> constants, at::ArrayRef<double> zoneout,
                               const c10::List<bool>& reverse, at::IntArrayRef, bool save) {
  const auto typed = x.scalar_type() == at::kDouble ? unroll_typed<double> : unroll_typed<float>;
  return typed(x, lengths, initial, weights, plan_of(masks, drops, zones, between, cell, names, constants, zoneout, reverse), save);
}

std::vector<Tensor> unroll_backward_cpu(const Tensor& grad_output, TensorList grad_final, const Tensor& x,
                                        const OptionalTensor& lengths, TensorList, TensorList weights, TensorList masks, TensorList drops,
                                        TensorList zones, TensorList between, TensorList saved, const std::string& cell,
                                        const c10::List<std::string>& names, at::ArrayRef<double> constants,
                                        at::ArrayRef<double> zoneout, const c10::List<bool>& reverse, at::IntArrayRef,
                                        bool wants_x, bool wants_states, bool wants_weights) {
  const auto typed = x.scalar_type() == at::kDouble ? unroll_backward_typed<double> : unroll_backward_typed<float>;
  return typed(grad_output, grad_final, x, lengths, weights, saved,
               plan_of(masks, drops, zones, between, cell, names, constants, zoneout, reverse), wants_x, wants_states, wants_weights);
}

int64_t saved_size(const std::string& cell, const c10::List<std::string>& names, int64_t hidden) {
  return layout_of(cell_named<float>(cell).shape, {names.begin(), names.end()}, hidden).size;
}
int64_t states(const std::string& cell) { return cell_named<float>(cell).shape.states; }

}  // namespace
}  // namespace deep_rnn

TORCH_LIBRARY(deep_rnn, library) {
  library.def(
      "unroll(Tensor x, Tensor? lengths, Tensor[] initial, Tensor[] weights, Tensor[] masks, Tensor[] drops, Tensor[] zones, Tensor[] between, "
      "str cell, str[] names, float[] constants, float[] zoneout, bool[] reverse, int[] cells, bool save) -> Tensor[]");
  library.def(
      "unroll_backward(Tensor grad_output, Tensor[] grad_final, Tensor x, Tensor? lengths, Tensor[] initial, Tensor[] weights, "
      "Tensor[] masks, Tensor[] drops, Tensor[] zones, Tensor[] between, Tensor[] saved, str cell, str[] names, float[] constants, float[] zoneout, "
      "bool[] reverse, int[] cells, bool wants_x, bool wants_states, bool wants_weights) -> Tensor[]");
  library.def(  // implemented in Python, by deep_rnn/kernels/twice.py
      "unroll_twice(Tensor[] grads, Tensor grad_output, Tensor[] grad_final, Tensor x, Tensor? lengths, Tensor[] initial, "
      "Tensor[] weights, Tensor[] masks, Tensor[] drops, Tensor[] zones, Tensor[] between, str[] names, float[] zoneout, bool[] reverse, "
      "int[] cells, bool wants_x, bool wants_states, bool wants_weights) -> Tensor[]");
  library.def("saved_size(str cell, str[] names, int hidden) -> int", &deep_rnn::saved_size);
  library.def("states(str cell) -> int", &deep_rnn::states);
}

TORCH_LIBRARY_IMPL(deep_rnn, CPU, library) {
  library.impl("unroll", TORCH_FN(deep_rnn::unroll_cpu));
  library.impl("unroll_backward", TORCH_FN(deep_rnn::unroll_backward_cpu));
}
