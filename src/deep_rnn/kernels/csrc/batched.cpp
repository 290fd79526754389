// Gradients that are asked for in batches (torch.autograd.grad(…, is_grads_batched=True), functional.jacobian(…,
// vectorize=True), gradcheck): the vmap inside autograd, which is not torch.func's. One call a member of the batch.

#include <ATen/LegacyBatchedTensorImpl.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/stack.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>

namespace deep_rnn {
namespace {

using at::Tensor;

int64_t level_of(const Tensor& tensor) {
  const auto* batched = tensor.defined() ? at::maybeGetBatchedImpl(tensor) : nullptr;
  return batched ? batched->bdims().back().level() : -1;  // levels stand in increasing order
}

// Member i of what is batched at a level; what is not, itself.
Tensor member(const Tensor& tensor, int64_t level, int64_t i) {
  if (level_of(tensor) != level) return tensor;
  const auto* batched = at::maybeGetBatchedImpl(tensor);
  const int64_t dim = batched->bdims().back().dim();
  const Tensor one = batched->value().select(dim, i);
  at::BatchDims others;
  for (const auto& other : batched->bdims().slice(0, batched->bdims().size() - 1))
    others.emplace_back(other.level(), other.dim() - (other.dim() > dim));
  return others.empty() ? one : at::makeBatched(one, others);
}

template <class F>
void for_tensors(const c10::IValue& value, F f) {
  if (value.isTensor()) f(value.toTensor());
  if (value.isTensorList())
    for (const Tensor& tensor : value.toTensorVector()) f(tensor);
}

void one_by_one(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const size_t count = op.schema().arguments().size();
  const std::vector<c10::IValue> arguments(stack->end() - int64_t(count), stack->end());
  stack->erase(stack->end() - int64_t(count), stack->end());
  int64_t level = -1, size = 0;
  for (const auto& value : arguments) for_tensors(value, [&](const Tensor& t) { level = std::max(level, level_of(t)); });
  for (const auto& value : arguments)
    for_tensors(value, [&](const Tensor& t) {
      if (level_of(t) == level) size = at::maybeGetBatchedImpl(t)->value().size(at::maybeGetBatchedImpl(t)->bdims().back().dim());
    });

  std::vector<std::vector<Tensor>> results;
  for (int64_t i = 0; i < size; ++i) {
    torch::jit::Stack own;
    for (const auto& value : arguments) {
      if (value.isTensor()) {
        own.emplace_back(member(value.toTensor(), level, i));
      } else if (value.isTensorList()) {
        std::vector<Tensor> members;
        for (const Tensor& tensor : value.toTensorVector()) members.push_back(member(tensor, level, i));
        own.emplace_back(std::move(members));
      } else {
        own.emplace_back(value);
      }
    }
    op.callBoxed(&own);
    results.push_back(own.back().toTensorVector());
  }
  std::vector<Tensor> joined;
  for (size_t k = 0; k < results.front().size(); ++k) {
    std::vector<Tensor> members;
    for (const auto& result : results) members.push_back(result[k]);
    joined.push_back(at::addBatchDim(at::stack(members), level, 0));
  }
  stack->emplace_back(std::move(joined));
}

}  // namespace
}  // namespace deep_rnn

TORCH_LIBRARY_IMPL(deep_rnn, Batched, library) {
  for (const char* name : {"unroll", "unroll_backward", "unroll_twice"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&deep_rnn::one_by_one>());
}
