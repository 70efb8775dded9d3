// SPDX-License-Identifier: MIT
#pragma once

// The few calls of MPI that this example needs.

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

namespace distributed {

/// What ends the job: every rank has the same one, the lowest that found it prints it.
class failure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// All ranks of the job, from construction to destruction.
class communicator {
public:
    communicator(int& argc, char**& argv) {
        MPI_Init(&argc, &argv);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
    }
    ~communicator() { MPI_Finalize(); }
    communicator(const communicator&) = delete;
    communicator& operator=(const communicator&) = delete;

    std::size_t rank() const { return static_cast<std::size_t>(rank_); }
    std::size_t size() const { return static_cast<std::size_t>(size_); }

    /// What all ranks pass, in their order.
    std::vector<std::uint64_t> gather(std::uint64_t value) const {
        std::vector<std::uint64_t> all(size());
        MPI_Allgather(&value, 1, MPI_UINT64_T, all.data(), 1, MPI_UINT64_T, MPI_COMM_WORLD);
        return all;
    }

    /// The bytes of all ranks, in their order; `storage` keeps them. They need not be equally many.
    std::vector<std::span<const std::byte>> gather(std::span<const std::byte> mine,
                                                   std::vector<std::byte>& storage) const {
        const std::vector<std::uint64_t> sizes = gather(mine.size());
        std::vector<int> counts, starts;
        std::uint64_t total = 0;
        for (const std::uint64_t n : sizes) {
            starts.push_back(static_cast<int>(total));
            counts.push_back(static_cast<int>(n));
            total += n;
            if (total > static_cast<std::uint64_t>(std::numeric_limits<int>::max()))
                throw failure("the messages of one step are longer together than MPI counts: 2^31 bytes");
        }
        storage.resize(total);
        MPI_Allgatherv(mine.data(), static_cast<int>(mine.size()), MPI_BYTE, storage.data(), counts.data(),
                       starts.data(), MPI_BYTE, MPI_COMM_WORLD);
        std::vector<std::span<const std::byte>> all;
        for (std::size_t r = 0; r < sizes.size(); ++r)
            all.push_back(std::span(storage).subspan(static_cast<std::size_t>(starts[r]), sizes[r]));
        return all;
    }

    /// Ends the job on every rank where one of them has a complaint: the lowest such rank prints its own.
    void agree(const std::string& complaint) const {
        const std::vector<std::uint64_t> bad = gather(complaint.empty() ? 0 : 1);
        for (std::size_t r = 0; r < bad.size(); ++r)
            if (bad[r] != 0)
                throw failure(r == rank() ? "rank " + std::to_string(r) + ": " + complaint : std::string{});
    }

    /// The states of all ranks merged into one, known to rank 0. Merge(into, from) is associative and commutative.
    template <class State, void (*Merge)(State&, const State&)> void reduce(State& state) const {
        static_assert(std::is_trivially_copyable_v<State>);
        MPI_Datatype type = MPI_DATATYPE_NULL;
        MPI_Type_contiguous(static_cast<int>(sizeof(State)), MPI_BYTE, &type);
        MPI_Type_commit(&type);
        MPI_Op operation = MPI_OP_NULL;
        MPI_Op_create(
            [](void* in, void* into, int* count, MPI_Datatype*) {
                for (int i = 0; i < *count; ++i) Merge(static_cast<State*>(into)[i], static_cast<const State*>(in)[i]);
            },
            1, &operation);
        const State mine = state;
        MPI_Reduce(&mine, &state, 1, type, operation, 0, MPI_COMM_WORLD);
        MPI_Op_free(&operation);
        MPI_Type_free(&type);
    }

private:
    int rank_ = 0, size_ = 1;
};

} // namespace distributed
