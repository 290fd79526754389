// The derivative of deep_rnn::unroll is deep_rnn::unroll_backward, and that one's deep_rnn::unroll_twice, which is Python's
// and made of operators that have all of theirs.
//
// A node of autograd's own kind, as the derivatives of torch's operators are: torch::autograd::Function refuses torch.func.

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>

#include <optional>

namespace deep_rnn {
namespace {

using at::Tensor;
using at::TensorList;
using OptionalTensor = std::optional<Tensor>;
using torch::autograd::variable_list;

using Names = c10::List<std::string>;
using Reals = at::ArrayRef<double>;
using Flags = c10::List<bool>;

using Unroll = std::vector<Tensor>(const Tensor&, const OptionalTensor&, TensorList, TensorList, TensorList, TensorList, TensorList,
                                   TensorList, const std::string&, const Names&, Reals, Reals, const Flags&, at::IntArrayRef, bool);
using Backward = std::vector<Tensor>(const Tensor&, TensorList, const Tensor&, const OptionalTensor&, TensorList, TensorList, TensorList,
                                     TensorList, TensorList, TensorList, TensorList, const std::string&, const Names&, Reals, Reals,
                                     const Flags&, at::IntArrayRef, bool, bool, bool);
using Twice = std::vector<Tensor>(TensorList, const Tensor&, TensorList, const Tensor&, const OptionalTensor&, TensorList, TensorList,
                                  TensorList, TensorList, TensorList, TensorList, const Names&, Reals, const Flags&, at::IntArrayRef,
                                  bool, bool, bool);

const c10::TypedOperatorHandle<Unroll>& unroll_operator() {
  static const auto handle = c10::Dispatcher::singleton().findSchemaOrThrow("deep_rnn::unroll", "").typed<Unroll>();
  return handle;
}

const c10::TypedOperatorHandle<Backward>& backward_operator() {
  static const auto handle = c10::Dispatcher::singleton().findSchemaOrThrow("deep_rnn::unroll_backward", "").typed<Backward>();
  return handle;
}

const c10::TypedOperatorHandle<Twice>& twice_operator() {
  static const auto handle = c10::Dispatcher::singleton().findSchemaOrThrow("deep_rnn::unroll_twice", "").typed<Twice>();
  return handle;
}

// Nodes are counted by c10::intrusive_ptr in the newer versions of torch, by std::shared_ptr in the older ones.
template <class Node, class... Args>
auto make_node(Args&&... args) {
  if constexpr (std::is_base_of_v<c10::intrusive_ptr_target, Node>)
    return c10::make_intrusive<Node>(std::forward<Args>(args)...);
  else
    return std::make_shared<Node>(std::forward<Args>(args)...);
}

// What both nodes keep of a call, beside what each has of its own.
struct Kept {
  size_t states, weights, masks, drops, zones, between;
  bool has_lengths;
  std::string cell;
  Names names;
  std::vector<double> constants, zoneout;
  Flags reverse;
  std::vector<int64_t> cells;  // what `unroll_twice` knows the cells by
  std::vector<torch::autograd::SavedVariable> tensors;  // x, the lists, what is added to them, and lengths if there are any

  Kept(const Tensor& x, const OptionalTensor& lengths, TensorList initial, TensorList w, TensorList m, TensorList d, TensorList z,
       TensorList b, TensorList added, const std::string& cell, const Names& names, Reals constants, Reals zoneout, const Flags& reverse,
       at::IntArrayRef cells)
      : states(initial.size()), weights(w.size()), masks(m.size()), drops(d.size()), zones(z.size()), between(b.size()),
        has_lengths(lengths.has_value()), cell(cell), names(names), constants(constants.vec()), zoneout(zoneout.vec()), reverse(reverse),
        cells(cells.vec()) {
    tensors.emplace_back(x, /*is_output=*/false);
    for (const TensorList& list : {initial, w, m, d, z, b, added})
      for (const Tensor& tensor : list) tensors.emplace_back(tensor, /*is_output=*/false);
    if (lengths) tensors.emplace_back(*lengths, /*is_output=*/false);
  }
};

// A call's tensors as they were kept.
struct Unpacked {
  variable_list all;
  OptionalTensor lengths;
  TensorList initial, weights, masks, drops, zones, between, added;

  explicit Unpacked(const Kept& kept) {
    TORCH_CHECK(!kept.tensors.empty(), "backward a second time through the same graph: its saved tensors are freed; use retain_graph=True");
    for (const auto& variable : kept.tensors) all.push_back(variable.unpack());
    if (kept.has_lengths) {
      lengths = all.back();
      all.pop_back();
    }
    TensorList rest = TensorList(all).slice(1);
    const auto take = [&](size_t count) {
      const TensorList front = rest.slice(0, count);
      rest = rest.slice(count);
      return front;
    };
    initial = take(kept.states), weights = take(kept.weights), masks = take(kept.masks), drops = take(kept.drops);
    zones = take(kept.zones), between = take(kept.between), added = rest;
  }

  const Tensor& x() const { return all[0]; }
};

void fill_undefined(variable_list& grads, const torch::autograd::Node& node) {
  for (size_t i = 0; i < grads.size(); ++i)
    if (!grads[i].defined()) grads[i] = node.input_metadata(i).zeros_like();
}

struct UnrollBackward : torch::autograd::Node {
  std::optional<Kept> kept;  // added: what the kernels saved

  std::string name() const override { return "DeepRnnUnrollBackward"; }
  void release_variables() override { kept->tensors.clear(); }

  // Gradients of x, the initial states and the weights, in this order.
  variable_list apply(variable_list&& grads) override {
    const Unpacked call(*kept);
    fill_undefined(grads, *this);
    const auto wanted = [&](size_t first, size_t count) {
      for (size_t i = first; i < first + count; ++i)
        if (task_should_compute_output(i)) return true;
      return false;
    };
    const size_t states = kept->states, weights = kept->weights;
    const bool wants_x = wanted(0, 1), wants_states = wanted(1, states), wants_weights = wanted(1 + states, weights);
    const variable_list found = backward_operator().call(
        grads[0], TensorList(grads).slice(1), call.x(), call.lengths, call.initial, call.weights, call.masks, call.drops, call.zones,
        call.between, call.added, kept->cell, kept->names, kept->constants, kept->zoneout, kept->reverse, kept->cells, wants_x,
        wants_states, wants_weights);
    variable_list all;
    auto next = found.begin();
    const auto take = [&](size_t count, bool given) {
      for (size_t i = 0; i < count; ++i) all.push_back(given ? *next++ : Tensor());
    };
    take(1, wants_x), take(states, wants_states), take(weights, wants_weights);
    return all;
  }
};

struct UnrollTwice : torch::autograd::Node {
  std::optional<Kept> kept;  // added: the gradients of the output and of the last states
  bool wants_x, wants_states, wants_weights;

  std::string name() const override { return "DeepRnnUnrollTwice"; }
  void release_variables() override { kept->tensors.clear(); }

  // Gradients of those gradients, of x, the initial states and the weights, in this order.
  variable_list apply(variable_list&& grads) override {
    const Unpacked call(*kept);
    fill_undefined(grads, *this);
    return twice_operator().call(grads, call.added[0], call.added.slice(1), call.x(), call.lengths, call.initial, call.weights,
                                 call.masks, call.drops, call.zones, call.between, kept->names, kept->zoneout, kept->reverse, kept->cells,
                                 wants_x, wants_states, wants_weights);
  }
};

std::vector<Tensor> unroll(const Tensor& x, const OptionalTensor& lengths, TensorList initial, TensorList weights, TensorList masks,
                           TensorList drops, TensorList zones, TensorList between, const std::string& cell, const Names& names,
                           Reals constants, Reals zoneout, const Flags& reverse, at::IntArrayRef cells, bool save) {
  const auto call = [&](bool save) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return unroll_operator().call(x, lengths, initial, weights, masks, drops, zones, between, cell, names, constants, zoneout, reverse,
                                  cells, save);
  };
  TORCH_CHECK_NOT_IMPLEMENTED(!torch::autograd::isFwGradDefined(x) && !torch::autograd::isFwGradDefinedTensorList(initial) &&
                                  !torch::autograd::isFwGradDefinedTensorList(weights),
                              "backend=fused has no forward-mode derivative; use backend=loop");
  if (!torch::autograd::compute_requires_grad(x, initial, weights)) return call(save);

  const auto node = make_node<UnrollBackward>();
  node->set_next_edges(torch::autograd::collect_next_edges(x, initial, weights));
  std::vector<Tensor> results = call(true);
  const size_t visible = 1 + initial.size();
  node->kept.emplace(x, lengths, initial, weights, masks, drops, zones, between, TensorList(results).slice(visible), cell, names,
                     constants, zoneout, reverse, cells);
  if (!save) results.resize(visible);
  for (size_t i = 0; i < visible; ++i) torch::autograd::set_history(results[i], node);
  return results;
}

std::vector<Tensor> unroll_backward(const Tensor& grad_output, TensorList grad_final, const Tensor& x, const OptionalTensor& lengths,
                                    TensorList initial, TensorList weights, TensorList masks, TensorList drops, TensorList zones,
                                    TensorList between, TensorList saved, const std::string& cell, const Names& names, Reals constants,
                                    Reals zoneout, const Flags& reverse, at::IntArrayRef cells, bool wants_x, bool wants_states,
                                    bool wants_weights) {
  std::vector<Tensor> results;
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    results = backward_operator().call(grad_output, grad_final, x, lengths, initial, weights, masks, drops, zones, between, saved, cell,
                                       names, constants, zoneout, reverse, cells, wants_x, wants_states, wants_weights);
  }
  if (!torch::autograd::compute_requires_grad(grad_output, grad_final, x, initial, weights)) return results;

  const auto node = make_node<UnrollTwice>();
  node->set_next_edges(torch::autograd::collect_next_edges(grad_output, grad_final, x, initial, weights));
  std::vector<Tensor> grads{grad_output};
  grads.insert(grads.end(), grad_final.begin(), grad_final.end());
  node->kept.emplace(x, lengths, initial, weights, masks, drops, zones, between, grads, cell, names, constants, zoneout, reverse, cells);
  node->wants_x = wants_x, node->wants_states = wants_states, node->wants_weights = wants_weights;
  for (Tensor& result : results) torch::autograd::set_history(result, node);
  return results;
}

}  // namespace
}  // namespace deep_rnn

TORCH_LIBRARY_IMPL(deep_rnn, Autograd, library) {
  library.impl("unroll", TORCH_FN(deep_rnn::unroll));
  library.impl("unroll_backward", TORCH_FN(deep_rnn::unroll_backward));
}
