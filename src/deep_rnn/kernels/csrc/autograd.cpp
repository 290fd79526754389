// The derivative of deep_rnn::unroll is deep_rnn::unroll_backward; that one has none.
//
// A node of autograd's own kind, as the derivatives of torch's operators are: torch::autograd::Function refuses torch.func.

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
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
                                   const std::string&, const Names&, Reals, Reals, const Flags&, bool);
using Backward = std::vector<Tensor>(const Tensor&, TensorList, const Tensor&, const OptionalTensor&, TensorList, TensorList, TensorList,
                                     TensorList, TensorList, const std::string&, const Names&, Reals, Reals, const Flags&, bool, bool,
                                     bool);

const c10::TypedOperatorHandle<Unroll>& unroll_operator() {
  static const auto handle = c10::Dispatcher::singleton().findSchemaOrThrow("deep_rnn::unroll", "").typed<Unroll>();
  return handle;
}

const c10::TypedOperatorHandle<Backward>& backward_operator() {
  static const auto handle = c10::Dispatcher::singleton().findSchemaOrThrow("deep_rnn::unroll_backward", "").typed<Backward>();
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

struct UnrollBackward : torch::autograd::Node {
  size_t states, weights, masks, drops, zones;
  bool has_lengths;
  std::string cell;
  Names names;
  std::vector<double> constants, zoneout;
  Flags reverse;
  std::vector<torch::autograd::SavedVariable> kept;  // x, weights, masks, drops, zones, saved, and lengths if there are any

  UnrollBackward(const Names& names, const Flags& reverse) : names(names), reverse(reverse) {}

  std::string name() const override { return "DeepRnnUnrollBackward"; }
  void release_variables() override { kept.clear(); }

  // Gradients of x, the initial states and the weights, in this order.
  variable_list apply(variable_list&& grads) override {
    TORCH_CHECK(!kept.empty(), "backward a second time through the same graph: its saved tensors are freed; use retain_graph=True");
    variable_list tensors;
    for (const auto& variable : kept) tensors.push_back(variable.unpack());
    for (size_t i = 0; i < grads.size(); ++i)
      if (!grads[i].defined()) grads[i] = input_metadata(i).zeros_like();
    OptionalTensor lengths;
    if (has_lengths) {
      lengths = tensors.back();
      tensors.pop_back();
    }
    const auto wanted = [&](size_t first, size_t count) {
      for (size_t i = first; i < first + count; ++i)
        if (task_should_compute_output(i)) return true;
      return false;
    };
    const bool wants_x = wanted(0, 1), wants_states = wanted(1, states), wants_weights = wanted(1 + states, weights);
    TensorList rest = TensorList(tensors).slice(1);
    const auto take_front = [&](size_t count) {
      const TensorList front = rest.slice(0, count);
      rest = rest.slice(count);
      return front;
    };
    const TensorList w = take_front(weights), m = take_front(masks), d = take_front(drops), z = take_front(zones);
    const variable_list found = backward_operator().call(grads[0], TensorList(grads).slice(1), tensors[0], lengths, w, m, d, z, rest, cell,
                                                         names, constants, zoneout, reverse, wants_x, wants_states, wants_weights);
    variable_list all;
    auto next = found.begin();
    const auto take = [&](size_t count, bool given) {
      for (size_t i = 0; i < count; ++i) all.push_back(given ? *next++ : Tensor());
    };
    take(1, wants_x), take(states, wants_states), take(weights, wants_weights);
    return all;
  }
};

std::vector<Tensor> unroll(const Tensor& x, const OptionalTensor& lengths, TensorList initial, TensorList weights, TensorList masks,
                           TensorList drops, TensorList zones, const std::string& cell, const Names& names, Reals constants, Reals zoneout,
                           const Flags& reverse, bool save) {
  const auto call = [&](bool save) {
    const at::AutoDispatchBelowADInplaceOrView below;
    return unroll_operator().call(x, lengths, initial, weights, masks, drops, zones, cell, names, constants, zoneout, reverse, save);
  };
  TORCH_CHECK_NOT_IMPLEMENTED(!torch::autograd::isFwGradDefined(x) && !torch::autograd::isFwGradDefinedTensorList(initial) &&
                                  !torch::autograd::isFwGradDefinedTensorList(weights),
                              "backend=fused has no forward-mode derivative; use backend=loop");
  if (!torch::autograd::compute_requires_grad(x, initial, weights)) return call(save);

  const auto node = make_node<UnrollBackward>(names, reverse);
  node->set_next_edges(torch::autograd::collect_next_edges(x, initial, weights));
  std::vector<Tensor> results = call(true);
  node->states = initial.size(), node->weights = weights.size(), node->masks = masks.size();
  node->drops = drops.size(), node->zones = zones.size();
  node->has_lengths = lengths.has_value();
  node->cell = cell, node->constants = constants.vec(), node->zoneout = zoneout.vec();
  const size_t visible = 1 + initial.size();
  const auto keep = [&](TensorList tensors) {
    for (const Tensor& tensor : tensors) node->kept.emplace_back(tensor, /*is_output=*/false);
  };
  keep({x}), keep(weights), keep(masks), keep(drops), keep(zones), keep(TensorList(results).slice(visible));
  if (lengths) keep({*lengths});
  if (!save) results.resize(visible);
  for (size_t i = 0; i < visible; ++i) torch::autograd::set_history(results[i], node);
  return results;
}

std::vector<Tensor> unroll_backward(const Tensor& grad_output, TensorList grad_final, const Tensor& x, const OptionalTensor& lengths,
                                    TensorList weights, TensorList masks, TensorList drops, TensorList zones, TensorList saved,
                                    const std::string& cell, const Names& names, Reals constants, Reals zoneout, const Flags& reverse,
                                    bool wants_x, bool wants_states, bool wants_weights) {
  std::vector<Tensor> results;
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    results = backward_operator().call(grad_output, grad_final, x, lengths, weights, masks, drops, zones, saved, cell, names, constants,
                                       zoneout, reverse, wants_x, wants_states, wants_weights);
  }
  if (torch::autograd::compute_requires_grad(grad_output, grad_final, x, weights)) {
    const auto node = make_node<torch::autograd::Error>(
        "backend=fused has no second derivative; use backend=loop",
        torch::autograd::collect_next_edges(grad_output, grad_final, x, weights));
    for (Tensor& result : results) torch::autograd::set_history(result, node);
  }
  return results;
}

}  // namespace
}  // namespace deep_rnn

TORCH_LIBRARY_IMPL(deep_rnn, Autograd, library) {
  library.impl("unroll", TORCH_FN(deep_rnn::unroll));
  library.impl("unroll_backward", TORCH_FN(deep_rnn::unroll_backward));
}
