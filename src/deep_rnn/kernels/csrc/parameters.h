// A cell's parameters by the names they have in torch: what shape each has, and where the walk and the plain driver
// look for it.
#pragma once

#include <string>
#include <vector>

#include "pass.h"

namespace deep_rnn {

// "weight_hh_3" is "weight_hh" of level 2, "norms.1.weight" is "norms.weight" of level 1.
struct ParameterName {
  std::string base;
  int64_t level = 0;

  explicit ParameterName(const std::string& name) : base(name) {
    size_t end = base.rfind(".weight");
    if (end == std::string::npos) end = base.rfind(".bias");
    if (end == std::string::npos) end = base.size();
    size_t begin = end;
    while (begin > 0 && base[begin - 1] >= '0' && base[begin - 1] <= '9') --begin;
    if (begin == end || begin == 0) return;
    const bool counts_from_one = base[begin - 1] == '_';
    level = std::stoll(base.substr(begin, end - begin)) - counts_from_one;
    base.erase(begin - 1, end - begin + 1);
  }
};

// How many levels the named parameters make.
inline int64_t count_levels(const std::vector<std::string>& names) {
  int64_t levels = 1;
  for (const std::string& name : names) levels = std::max(levels, ParameterName(name).level + 1);
  return levels;
}

inline bool names_one(const std::vector<std::string>& names, const char* wanted) {
  return std::find(names.begin(), names.end(), wanted) != names.end();
}

inline Layout layout_of(const CellShape& cell, const std::vector<std::string>& names, int64_t hidden) {
  return Layout(cell, hidden, count_levels(names), names_one(names, "norm_ih.weight"), names_one(names, "norm_hh.weight"));
}

// The shape of a parameter; empty if the cell has none of that name.
inline std::vector<int64_t> parameter_shape(const CellShape& cell, const ParameterName& name, int64_t input, int64_t hidden) {
  const int64_t H = hidden, products = cell.all_products() * H;
  const int64_t own_rows = cell.middle_matrix ? cell.products * H : products;
  if (name.base == "weight_ih") return {cell.projected() * H, input};
  if (name.base == "bias_ih") return {cell.projected() * H};
  if (cell.products && name.base == cell.matrix) return {own_rows, cell.sources * H};
  if (cell.middle_matrix && name.base == cell.middle_matrix) return {cell.middle_products * H, H};
  if (cell.products && name.base == "bias_hh") return {products};
  if (name.base == "weight_hh_shortcut") return {cell.inputs * H, H};
  if (cell.groups && name.base == "norm_ih.weight") return {cell.inputs * H};
  if (cell.groups && name.base == "norm_hh.weight") return {products};
  if (cell.middle == Middle::norm && (name.base == "norms.weight" || name.base == "norms.bias")) return {H};
  for (int i = 0; i < cell.vectors; ++i)
    if (name.base == cell.vector_names[i]) return {H};
  return {};
}

// Where the data of a parameter belongs; P is const T* or, for gradients, T*.
template <class P>
struct ParameterSlots {
  P w_ih{}, b_ih{};
  More<P> more;

  explicit ParameterSlots(int64_t levels) { more.levels.resize(levels); }

  void set(const CellShape& cell, const ParameterName& name, int64_t hidden, P data) {
    Level<P>& level = more.levels[name.level];
    if (name.base == "weight_ih") w_ih = data;
    if (name.base == "bias_ih") b_ih = data;
    if (name.base == cell.matrix && cell.products) level.w_hh = data;
    if (name.base == cell.matrix && cell.middle_products && !cell.middle_matrix)
      level.w_middle = data + cell.products * hidden * cell.sources * hidden;
    if (cell.middle_matrix && name.base == cell.middle_matrix) level.w_middle = data;
    if (name.base == "bias_hh") level.b_hh = data;
    if (name.base == "weight_hh_shortcut") more.shortcut = data;
    if (name.base == "norm_ih.weight") more.gain_ih = data;
    if (name.base == "norm_hh.weight") level.gain = data;
    if (name.base == "norms.weight") level.norm_weight = data;
    if (name.base == "norms.bias") level.norm_bias = data;
    for (int i = 0; i < cell.vectors; ++i)
      if (name.base == cell.vector_names[i]) more.vectors[i] = data;
  }
};

}  // namespace deep_rnn
