// SPDX-License-Identifier: MIT
#include "storage.hpp"

#include "../kernels/kernels.hpp"
#include "plane_storage.hpp"

#include <map>
#include <quant/core/half.hpp>
#include <quant/packing.hpp>
#include <quant/quantize/corrections.hpp>
#include <set>

namespace quant_tool {

namespace {

/// Calls f with a span of the codes in their storage type, int8_t or uint8_t.
template <class F> decltype(auto) with_codes(const quant::quantized_tensor& q, F f) {
    return q.format().is_signed ? f(q.codes<std::int8_t>()) : f(q.codes<std::uint8_t>());
}

/// The shape of the tensors that hold one number per slice.
shape_type parameter_shape(const stored_tensor& t) {
    if (t.layout.granularity != granularity_choice::per_group) {
        return {t.layout.slices()};
    }
    auto shape = t.shape;
    shape[static_cast<std::size_t>(t.axis)] = t.layout.groups();
    return shape;
}

bool one_width(const quant::quantized_tensor& q) {
    for (const auto& p : q.params()) {
        if (p.format.bits != q.params().front().format.bits) {
            return false;
        }
    }
    return true;
}

/// Where the packed codes of each slice begin, and after the last slice where all of them end.
std::vector<std::uint64_t> packed_offsets(const stored_tensor& t) {
    const auto params = t.codes.params();
    std::vector<std::uint64_t> out{0};
    out.reserve(params.size() + 1);
    for (std::uint64_t s = 0; s < params.size(); ++s) {
        out.push_back(out.back() + quant::packed_bytes(t.layout.slice_size(s), params[s].format));
    }
    return out;
}

/// Calls f(s) for all slices, on several threads in blocks worth it.
template <class F> void for_each_slice(const stored_tensor& t, unsigned threads, const F& f) {
    const auto slices = t.layout.slices();
    const auto blocks = cut(slices, threads, 1, t.codes.size() / slices);
    in_parallel(blocks.size(), threads, [&](std::size_t i) {
        for (std::size_t s = blocks[i].first; s < blocks[i].first + blocks[i].count; ++s) {
            f(s);
        }
    });
}

/// The codes of all slices, one stream after the other.
std::vector<std::uint8_t> pack_dense(const stored_tensor& t, unsigned threads) {
    const auto params = t.codes.params();
    const auto begin = packed_offsets(t);
    std::vector<std::uint8_t> packed(begin.back());
    with_codes(t.codes, [&](auto codes) {
        using code = typename decltype(codes)::value_type;
        for_each_slice(t, threads, [&](std::uint64_t s) {
            const auto pack = [&](std::span<const code> slice) {
                const auto bytes = std::span(packed).subspan(begin[s], begin[s + 1] - begin[s]);
                if (const auto status = quant::pack_codes(slice, bytes, params[s].format); !status) {
                    throw error(exit_code::internal, {}, t.name, std::string("packing: ") + status.argument);
                }
            };
            const auto size = t.layout.slice_size(s);
            if (const auto dense = t.layout.dense_slice(s)) {
                pack(codes.subspan(*dense, size));
                return;
            }
            std::vector<std::remove_const_t<code>> slice;
            slice.reserve(size);
            t.layout.for_each(s, [&](std::uint64_t offset) { slice.push_back(codes[offset]); });
            pack(slice);
        });
    });
    return packed;
}

/// Reads the entry of one tensor from the JSON text and its parts from the file.
class entry_reader {
public:
    using name_index = std::map<std::string_view, tensor*>;

    entry_reader(const name_index& parts, const std::string& path, std::string name, const json& entry,
                 unsigned threads)
        : parts_(parts), path_(path), name_(std::move(name)), entry_(entry), threads_(threads) {}

    stored_tensor read(std::set<std::string>& used) {
        stored_tensor t;
        t.name = name_;
        if (!entry_.is_object()) {
            fail("its description is not a JSON object");
        }
        const auto type = dtype_from_name(text("dtype"));
        if (!type || !is_real(*type)) {
            fail("its description has no real dtype");
        }
        t.type = *type;
        const auto& shape = at("shape");
        if (!shape.is_array() || shape.size() > max_rank) {
            fail("its description has no shape");
        }
        for (const auto& extent : shape) {
            if (!extent.is_number_unsigned()) {
                fail("its shape holds something that is not an extent");
            }
            t.shape.push_back(extent.get<std::uint64_t>());
        }
        const auto count = element_count(t.shape);
        if (!count || *count == 0 || *count > std::numeric_limits<std::size_t>::max() / 16) {
            fail("its shape is empty or overflows");
        }
        const auto granularity = choice(granularity_names, "granularity");
        if (granularity != granularity_choice::per_tensor) {
            t.axis = static_cast<int>(integer("axis", 0, static_cast<std::int64_t>(max_rank)));
        }
        const auto group_size =
            granularity == granularity_choice::per_group ? integer("group_size", 1, std::int64_t{1} << 32) : 0;
        const auto layout = slice_shape(t.shape, granularity, t.axis, static_cast<std::uint64_t>(group_size));
        if (!layout) {
            fail("its axis does not exist in its shape");
        }
        t.layout = *layout;
        const auto slices = t.layout.slices();

        // Nothing is allocated before the parts in the file are known to be as large as the shape says.
        const auto scales = part<float>(".scales", dtype::f32, slices, used, true);
        const auto zero_points = part<std::int32_t>(".zero_points", dtype::i32, slices, used, false);
        const auto gains = part<float>(".gain", dtype::f32, slices, used, false);
        const auto shifts = part<float>(".shift", dtype::f32, slices, used, false);
        const bool mixed = !entry_.contains("bits") || at("bits").is_null();
        const auto widths = part<std::uint8_t>(".bits", dtype::u8, slices, used, mixed);
        const auto uniform = mixed ? std::uint8_t{8} : static_cast<std::uint8_t>(integer("bits", 1, 8));
        quant::code_format format{uniform, flag("signed"), flag("narrow")};
        std::uint64_t packed_size = 0;
        std::uint8_t widest = 1;
        for (std::uint64_t s = 0; s < slices; ++s) {
            const auto bits = mixed ? widths[s] : uniform;
            if (bits < 1 || bits > 8) {
                fail("a width of " + std::to_string(bits) + " bits, not 1 to 8");
            }
            widest = std::max(widest, bits);
            packed_size += quant::packed_bytes(t.layout.slice_size(s), format.with_bits(bits));
        }
        format = format.with_bits(widest);
        const bool in_planes = entry_.contains("storage") && choice(storage_names, "storage") == storage_choice::planes;
        std::span<const std::uint8_t> packed;
        std::span<const std::uint16_t> words;
        if (in_planes) {
            words = plane_parts(t, *count, used);
        } else {
            packed = part<std::uint8_t>(".codes", dtype::u8, packed_size, used, true);
        }
        t.bytes = (scales.size() + zero_points.size() + gains.size() + shifts.size()) * 4 + widths.size() +
                  packed.size() + words.size() * 2 + live_bytes_;

        const auto extents = t.layout.extents();
        const bool corrected = !gains.empty() || !shifts.empty();
        if (!t.codes.allocate(extents, format, t.layout.library(), slices, corrected)) {
            throw std::bad_alloc();
        }
        const auto params = t.codes.mutable_params();
        for (std::uint64_t s = 0; s < slices; ++s) {
            params[s] = {scales[s], zero_points.empty() ? 0 : zero_points[s],
                         format.with_bits(mixed ? widths[s] : uniform)};
            if (const auto status = quant::validate(params[s]); !status) {
                fail("slice " + std::to_string(s) + " has an illegal " + std::string(status.argument).substr(7));
            }
            if (corrected) {
                const quant::channel_correction c{gains.empty() ? 1.0f : gains[s], shifts.empty() ? 0.0f : shifts[s]};
                if (!std::isfinite(c.gain) || !std::isfinite(c.shift)) {
                    fail("slice " + std::to_string(s) + " has a gain or a shift that is not finite");
                }
                t.codes.mutable_corrections()[s] = c;
            }
        }
        if (in_planes) {
            if (const auto wrong = unpack_planes(t, words); !wrong.empty()) {
                fail(wrong);
            }
        } else if (format.is_signed) {
            unpack<std::int8_t>(t, packed);
        } else {
            unpack<std::uint8_t>(t, packed);
        }
        if (entry_.contains("provenance")) {
            t.provenance = entry_["provenance"];
        }
        return t;
    }

private:
    [[noreturn]] void fail(const std::string& cause) const { throw error(exit_code::input, path_, name_, cause); }

    const json& at(const char* key) const {
        if (!entry_.contains(key)) {
            fail(std::string("its description lacks ") + key);
        }
        return entry_[key];
    }
    std::string text(const char* key) const {
        if (!at(key).is_string()) {
            fail(std::string("its ") + key + " is not a text");
        }
        return at(key).get<std::string>();
    }
    bool flag(const char* key) const {
        if (!at(key).is_boolean()) {
            fail(std::string("its ") + key + " is neither true nor false");
        }
        return at(key).get<bool>();
    }
    std::int64_t integer(const char* key, std::int64_t lowest, std::int64_t highest) const {
        const auto& value = at(key);
        if (!value.is_number_integer() || value < lowest || value > highest) {
            fail(std::string("its ") + key + " is not an integer from " + std::to_string(lowest) + " to " +
                 std::to_string(highest));
        }
        return value.get<std::int64_t>();
    }
    template <class Enum, std::size_t N> Enum choice(const name_table<Enum, N>& table, const char* key) const {
        const auto name = text(key);
        for (const auto& [n, value] : table) {
            if (n == name) {
                return value;
            }
        }
        fail(std::string("unknown ") + key + " '" + printable(name, 40) + "'");
    }
    template <class T>
    std::span<const T> part(const char* suffix, dtype type, std::uint64_t size, std::set<std::string>& used,
                            bool required) {
        const auto found = parts_.find(name_ + suffix);
        if (found == parts_.end()) {
            if (required) {
                fail("the file lacks '" + printable(name_ + suffix) + "'");
            }
            return {};
        }
        auto* const t = found->second;
        if (t->type != type || t->size() != size) {
            fail("'" + printable(t->name) + "' must have type " + std::string(name_of(type)) + " and " +
                 std::to_string(size) + " elements, it has " + std::string(name_of(t->type)) + " and " +
                 std::to_string(t->size()));
        }
        if (!used.insert(t->name).second) {
            fail("'" + printable(t->name) + "' belongs to two tensors");
        }
        return t->as<T>();
    }
    /// The words of a tensor in planes; sets which are live.
    std::span<const std::uint16_t> plane_parts(stored_tensor& t, std::uint64_t count, std::set<std::string>& used) {
        if (count > std::numeric_limits<std::size_t>::max() / 128) {
            fail("its shape is empty or overflows");
        }
        const std::uint64_t rows = plane_rows(t);
        const bool by_row = !entry_.contains("live") || at("live").is_null();
        if (by_row) {
            const auto masks = part<std::uint16_t>(".live", dtype::u16, rows, used, true);
            t.live.assign(masks.begin(), masks.end());
            live_bytes_ = masks.size_bytes();
        } else {
            t.live.assign(1, static_cast<live_mask>(integer("live", 0, 0xFFFF)));
        }
        const auto size = plane_words(t, count / rows);
        // What a few bytes may claim has an end.
        const auto dead = static_cast<std::uint64_t>(std::count(t.live.begin(), t.live.end(), live_mask{0}));
        const auto without_bytes = t.live.size() == 1 ? (dead != 0 ? count : 0) : dead * (count / rows);
        if (without_bytes > most_codes_without_bytes) {
            fail("a shape of " + std::to_string(without_bytes) + " codes and no live plane");
        }
        return part<std::uint16_t>(".planes", dtype::u16, size, used, true);
    }
    template <class Code> void unpack(stored_tensor& t, std::span<const std::uint8_t> packed) const {
        const auto codes = t.codes.mutable_codes<Code>();
        const auto begin = packed_offsets(t);
        for_each_slice(t, threads_, [&](std::uint64_t s) {
            const auto format = t.codes.params()[s].format;
            const auto unpack_into = [&](std::span<Code> slice) {
                const auto bytes = packed.subspan(begin[s], begin[s + 1] - begin[s]);
                if (const auto status = quant::unpack_codes(bytes, slice, format); !status) {
                    fail(std::string("its codes cannot be unpacked: ") + status.argument);
                }
            };
            const auto size = t.layout.slice_size(s);
            if (const auto dense = t.layout.dense_slice(s)) {
                unpack_into(codes.subspan(*dense, size));
                return;
            }
            std::vector<Code> slice(size);
            unpack_into(slice);
            auto code = slice.begin();
            t.layout.for_each(s, [&](std::uint64_t offset) { codes[offset] = *code++; });
        });
    }

    const name_index& parts_;
    const std::string& path_;
    std::string name_;
    const json& entry_;
    unsigned threads_;
    std::uint64_t live_bytes_ = 0;
};

} // namespace

quantized_file split_quantized(tensor_file file, const std::string& path, unsigned threads) {
    const auto refuse = [&](const std::string& cause) { return error(exit_code::input, path, cause); };
    const auto* const version = file.find_metadata(format_key);
    if (version == nullptr) {
        throw refuse("is not a quantized file (no " + std::string(format_key) + " in its metadata)");
    }
    if (*version != format_version && *version != planes_version) {
        throw refuse("format version '" + printable(*version, 40) + "' is unknown, this program reads versions " +
                     format_version + " and " + planes_version);
    }
    const auto* const text = file.find_metadata(tensors_key);
    if (text == nullptr) {
        throw refuse(std::string("its metadata lack ") + tensors_key);
    }
    // Two levels and a list are all there is; deeper nesting is cut before it can cost anything.
    const auto entries = json::parse(
        text->begin(), text->end(), [](int depth, auto, auto&) { return depth <= 8; }, false);
    if (!entries.is_object()) {
        throw refuse(std::string(tensors_key) + " in its metadata is not a JSON object");
    }

    quantized_file out;
    out.bytes_on_disk = file.bytes_on_disk;
    std::set<std::string> used;
    entry_reader::name_index index;
    for (auto& t : file.tensors) {
        index.emplace(t.name, &t);
    }
    for (const auto& [name, entry] : entries.items()) {
        if (index.contains(name)) {
            throw error(exit_code::input, path, name, "is there twice, quantized and as it was");
        }
        out.quantized.push_back(entry_reader(index, path, name, entry, threads).read(used));
    }
    for (auto& t : file.tensors) {
        if (!used.contains(t.name)) {
            out.plain.push_back(std::move(t));
        }
    }
    for (auto& [key, value] : file.metadata) {
        if (key != format_key && key != tensors_key) {
            out.metadata.emplace_back(key, value);
        }
    }
    return out;
}

std::uint64_t dense_bytes(const stored_tensor& t) { return packed_offsets(t).back(); }

std::vector<tensor> parts_of(const stored_tensor& t, unsigned threads) {
    std::vector<tensor> out;
    if (t.live.empty()) {
        auto packed = pack_dense(t, threads);
        const std::uint64_t size = packed.size();
        out.push_back(make_tensor(t.name + ".codes", dtype::u8, {size}, std::move(packed)));
    } else {
        auto words = pack_planes(t);
        const std::uint64_t size = words.size();
        out.push_back(make_tensor(t.name + ".planes", dtype::u16, {size}, std::move(words)));
        if (t.live.size() > 1) {
            out.push_back(make_tensor(t.name + ".live", dtype::u16, {t.live.size()}, t.live));
        }
    }

    const auto params = t.codes.params();
    const auto shape = parameter_shape(t);
    std::vector<float> scales;
    std::vector<std::int32_t> zero_points;
    std::vector<std::uint8_t> widths;
    bool any_zero_point = false;
    for (const auto& p : params) {
        scales.push_back(p.scale);
        zero_points.push_back(p.zero_point);
        widths.push_back(p.format.bits);
        any_zero_point = any_zero_point || p.zero_point != 0;
    }
    out.push_back(make_tensor(t.name + ".scales", dtype::f32, shape, std::move(scales)));
    if (any_zero_point) {
        out.push_back(make_tensor(t.name + ".zero_points", dtype::i32, shape, std::move(zero_points)));
    }
    if (!one_width(t.codes)) {
        out.push_back(make_tensor(t.name + ".bits", dtype::u8, shape, std::move(widths)));
    }
    if (!t.codes.corrections().empty()) {
        std::vector<float> gains, shifts;
        bool any_gain = false;
        for (const auto& c : t.codes.corrections()) {
            gains.push_back(c.gain);
            shifts.push_back(c.shift);
            any_gain = any_gain || c.gain != 1.0f;
        }
        if (any_gain) {
            out.push_back(make_tensor(t.name + ".gain", dtype::f32, shape, std::move(gains)));
        }
        out.push_back(make_tensor(t.name + ".shift", dtype::f32, shape, std::move(shifts)));
    }
    return out;
}

json description_of(const stored_tensor& t) {
    json out;
    out["dtype"] = name_of(t.type);
    out["shape"] = t.shape;
    out["bits"] = one_width(t.codes) ? json(t.codes.params().front().format.bits) : json(nullptr);
    out["signed"] = t.codes.format().is_signed;
    out["narrow"] = t.codes.format().narrow_range;
    if (!t.live.empty()) {
        out["storage"] = name_in(storage_names, storage_choice::planes);
        out["live"] = t.live.size() == 1 ? json(t.live[0]) : json(nullptr);
    }
    out["granularity"] = name_in(granularity_names, t.layout.granularity);
    if (t.layout.granularity != granularity_choice::per_tensor) {
        out["axis"] = t.axis;
    }
    if (t.layout.granularity == granularity_choice::per_group) {
        out["group_size"] = t.layout.group_size;
    }
    if (!t.provenance.is_null()) {
        out["provenance"] = t.provenance;
    }
    return out;
}

tensor restore(const stored_tensor& t, dtype type, unsigned threads) {
    std::vector<float> values(t.codes.size());
    const auto e = t.layout.extents();
    const auto blocks = t.layout.blocks(threads);
    with_codes(t.codes, [&](auto codes) {
        in_parallel(blocks.size(), threads, [&](std::size_t i) {
            const auto& b = blocks[i];
            const auto from = quant::view(codes, e[0], e[1], e[2]).subview(b.dimension, b.first, b.count);
            const auto to = quant::view(values, e[0], e[1], e[2]).subview(b.dimension, b.first, b.count);
            const auto corrections = t.codes.corrections();
            auto status = quant::dequantize(from, to, t.codes.params().subspan(b.slice, b.slices), t.layout.library());
            if (status && !corrections.empty()) {
                status = quant::apply_corrections(to, corrections.subspan(b.slice, b.slices), t.layout.library());
            }
            if (!status) {
                throw error(exit_code::internal, {}, t.name, std::string("dequantize: ") + status.argument);
            }
        });
    });
    if (type == dtype::f32) {
        return make_tensor(t.name, type, t.shape, std::move(values));
    }
    const auto converted = [&]<class T>(T) {
        std::vector<T> out(values.size());
        for_each_block(out.size(), threads, [&](std::size_t first, std::size_t count) {
            for (std::size_t i = first; i < first + count; ++i) {
                out[i] = quant::from_float<T>(values[i]);
            }
        });
        return make_tensor(t.name, type, t.shape, std::move(out));
    };
    switch (type) {
    case dtype::f16: return converted(quant::float16{});
    case dtype::bf16: return converted(quant::bfloat16{});
    default: return converted(double{});
    }
}

tensor_file read_restored(const std::string& path, unsigned threads) {
    auto file = read_tensors(path);
    if (!is_quantized(file)) {
        return file;
    }
    auto split = split_quantized(std::move(file), path, threads);
    tensor_file out;
    out.metadata = std::move(split.metadata);
    out.bytes_on_disk = split.bytes_on_disk;
    out.tensors = std::move(split.plain);
    for (const auto& t : split.quantized) {
        out.tensors.push_back(restore(t, t.type, threads));
    }
    return out;
}

} // namespace quant_tool
