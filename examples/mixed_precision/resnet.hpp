// SPDX-License-Identifier: MIT
#pragma once

// ResNet-20 for CIFAR-10, read from an ONNX file and run by the engine. It has no gradients, so its layers are told apart by what their
// weights say and by what the network's outputs say.

#include "../engine/graph.hpp"
#include "../evaluation/dataset.hpp"
#include "../onnx/model.hpp"
#include "model.hpp"

namespace mixed {

class resnet20 : public network {
public:
    /// folder  cifar10/resnet20_cifar10.onnx, cifar10/test_jpeg_2500.bin (counted) and cifar10/train_lossless_2000.bin (calibration)
    resnet20(const std::string& folder, std::size_t unseen, std::size_t calibration)
        : net_(engine::load(quant_onnx::read(folder + "/cifar10/resnet20_cifar10.onnx"))),
          unseen_(evaluation::cifar(folder + "/cifar10/test_jpeg_2500.bin", evaluation::imagenet)),
          calibration_(evaluation::cifar(folder + "/cifar10/train_lossless_2000.bin", evaluation::imagenet)),
          unseen_images_(std::min(unseen, unseen_.size)),
          calibration_images_(std::min(calibration, calibration_.size)) {
        for (std::size_t l = 0; l < net_.layers.size(); ++l) {
            if (!net_.layers[l].has_weight()) continue;
            places_.push_back(l);
            add_layer(net_.layers[l].weight);
        }
        for (std::size_t i = 0; i < unseen_images_; ++i)
            labels_.push_back(static_cast<std::uint8_t>(unseen_.labels[i]));
        full_ = run(unseen_, unseen_images_);
        full_calibration_ = run(calibration_, calibration_images_);
    }

    [[nodiscard]] quality evaluate(const weight_lists& weights) override {
        set(weights);
        const nn::tensor found = run(unseen_, unseen_images_);
        set(this->weights());
        return quality_of(full_, found, labels_);
    }
    /// KL of the outputs on calibration images, of the network as it is from that with one layer replaced.
    [[nodiscard]] double divergence(std::size_t layer, const std::vector<float>& weights) {
        net_.layers[places_[layer]].weight.data = weights;
        const nn::tensor found = run(calibration_, calibration_images_);
        net_.layers[places_[layer]].weight.data = this->weights()[layer];
        return quant_tool::require(quant::logit_divergence(full_calibration_.data, found.data, found.shape[1]),
                                   "logits");
    }

private:
    void set(const weight_lists& weights) {
        for (std::size_t l = 0; l < places_.size(); ++l) net_.layers[places_[l]].weight.data = weights[l];
    }
    [[nodiscard]] nn::tensor run(const evaluation::labelled_set& set, std::size_t images) const {
        constexpr std::size_t batch = 50;
        nn::tensor all;
        for (std::size_t from = 0; from < images; from += batch) {
            const nn::tensor part = engine::run(net_, set.batch(from, std::min(batch, images - from)));
            all.shape = {images, part.shape[1]};
            all.data.insert(all.data.end(), part.data.begin(), part.data.end());
        }
        return all;
    }

    engine::graph net_;
    evaluation::labelled_set unseen_, calibration_;
    std::size_t unseen_images_, calibration_images_;
    std::vector<std::uint8_t> labels_;
    std::vector<std::size_t> places_; ///< of the layers with weights
    nn::tensor full_, full_calibration_;
};

} // namespace mixed
