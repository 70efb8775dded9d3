// SPDX-License-Identifier: MIT
#pragma once
// The spelling of every named choice: on the command line, in the metadata of a written file and in --json.

#include "commands.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace quant_tool {

template <class Enum, std::size_t N> using name_table = std::array<std::pair<std::string_view, Enum>, N>;

inline constexpr name_table<clip_method, 5> clip_names{{{"minmax", clip_method::minmax},
                                                        {"percentile", clip_method::percentile},
                                                        {"mse", clip_method::mse},
                                                        {"entropy", clip_method::entropy},
                                                        {"aciq", clip_method::aciq}}};
inline constexpr name_table<aciq_variant, 4> aciq_names{{{"paper", aciq_variant::paper},
                                                         {"corrected", aciq_variant::corrected},
                                                         {"exact", aciq_variant::exact},
                                                         {"empirical", aciq_variant::empirical}}};
inline constexpr name_table<prior_choice, 3> prior_names{
    {{"laplace", prior_choice::laplace}, {"gauss", prior_choice::gauss}, {"auto", prior_choice::automatic}}};
inline constexpr name_table<correction, 3> correction_names{
    {{"none", correction::none}, {"mean", correction::mean}, {"mean-and-norm", correction::mean_and_norm}}};
inline constexpr name_table<granularity_choice, 3> granularity_names{{{"per_tensor", granularity_choice::per_tensor},
                                                                      {"per_axis", granularity_choice::per_axis},
                                                                      {"per_group", granularity_choice::per_group}}};
inline constexpr name_table<storage_choice, 3> storage_names{
    {{"dense", storage_choice::dense}, {"planes", storage_choice::planes}, {"smaller", storage_choice::smaller}}};
inline constexpr name_table<quant::mapping, 2> mapping_names{
    {{"symmetric", quant::mapping::symmetric}, {"affine", quant::mapping::affine}}};
inline constexpr name_table<quant::rounding, 4> rounding_names{{{"nearest-even", quant::rounding::nearest_even},
                                                                {"half-away", quant::rounding::half_away},
                                                                {"toward-negative", quant::rounding::toward_negative},
                                                                {"stochastic", quant::rounding::stochastic}}};
inline constexpr name_table<quant::scale_by, 2> scale_by_names{
    {{"division", quant::scale_by::division}, {"reciprocal", quant::scale_by::reciprocal}}};

template <class Enum, std::size_t N>
[[nodiscard]] constexpr std::string_view name_in(const name_table<Enum, N>& table, Enum value) noexcept {
    for (const auto& [name, v] : table) {
        if (v == value) {
            return name;
        }
    }
    return "?";
}

} // namespace quant_tool
