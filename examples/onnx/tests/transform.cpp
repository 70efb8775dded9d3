// SPDX-License-Identifier: MIT
// For the tests in Python: one step of the library on a model.
//   transform fold IN OUT                      fold batch normalisation
//   transform activations IN OUT NAME SCALE ZERO_POINT BITS SIGNED ...
//   transform shifts IN OUT WEIGHT SCALE SHIFT MEAN   8 bits, one scale, the shift folded into the biases; every mean is the same
//   transform list                             the operators that may be raised: "Type since" per line

#include "../../quant/io/atomic_file.hpp"
#include "../fold.hpp"
#include "../qdq.hpp"

#include <cmath>
#include <iostream>

namespace {

void run(const std::vector<std::string>& a) {
    using namespace quant_onnx;
    const auto word = [&](std::size_t i) -> const std::string& { return a.at(i); };
    if (word(0) == "list") {
        for (const auto& [type, since] : stable_operators()) {
            std::cout << type << ' ' << since << '\n';
        }
        return;
    }
    auto m = read(word(1));
    if (word(0) == "fold") {
        std::vector<std::string> kept;
        std::cout << fold_batch_normalization(m, &kept) << '\n';
        for (const auto& k : kept) {
            std::cout << k << '\n';
        }
    } else if (word(0) == "activations") {
        std::map<std::string, quant::affine_params> values;
        for (std::size_t i = 3; i < a.size(); i += 5) {
            values[word(i)] = {
                std::stof(word(i + 1)), std::stoi(word(i + 2)),
                quant::code_format{static_cast<std::uint8_t>(std::stoi(word(i + 3))), word(i + 4) == "1"}};
        }
        quantize_activations(m, values);
    } else {
        require_opset(m, 13);
        value_means means;
        for (const auto& w : weights_of(m)) {
            if (w.name != word(3)) {
                continue;
            }
            const float scale = std::stof(word(4)), shift = std::stof(word(5));
            for (const auto& n : m.nodes) {
                if (n.input_size() > 1 && n.input(1) == w.name) {
                    const auto channels = m.find(w.name)->shape[static_cast<std::size_t>(w.input_axis)] *
                                          attribute(n, "group", std::int64_t{1});
                    means[n.input(0)].assign(static_cast<std::size_t>(channels), std::stod(word(6)));
                }
            }
            const auto codes = [=](const tensor& t, std::span<std::byte> packed) {
                const auto values = t.floats();
                for (std::size_t i = 0; i < values.size(); ++i) {
                    packed[i] = static_cast<std::byte>(std::lrintf(values[i] / scale));
                }
                return weight_result{{{scale, 0, quant::code_format{8, true}}}, {shift}};
            };
            for (const auto& left : replace_weight(m, w, {element_type::int8, quant::per_tensor}, codes, &means)) {
                std::cout << left << '\n';
            }
        }
    }
    write(m, word(2), true);
}

} // namespace

int main(int argc, char** argv) {
    try {
        run({argv + 1, argv + argc});
        return 0;
    } catch (const quant_tool::error& e) {
        std::cerr << e.what() << '\n';
        return static_cast<int>(e.code());
    } catch (const std::exception& e) {
        std::cerr << e.what() << '\n';
        return 1;
    }
}
