# SPDX-License-Identifier: MIT
# Other libraries beside quant in the same program. Each is optional and has one source, peer_<name>.cpp; what is not found is
# left out with one line.
#
#   XNNPACK        Debian's libxnnpack-dev, libpthreadpool-dev   or -DQUANT_XNNPACK_ROOT=<folder>
#   oneDNN         Debian's libdnnl-dev, version 2 or 3          or -DQUANT_ONEDNN_ROOT=<folder>
#   ONNX Runtime   Debian 13's libonnxruntime-dev                or -DQUANT_ONNXRUNTIME_ROOT=<folder>
#   ggml           -DQUANT_GGML_ROOT=<folder>, what `cmake --install` of ggml writes
#   FBGEMM         -DQUANT_FBGEMM_ROOT=<folder>, what `cmake --install` of FBGEMM writes (libcpuinfo beside it or in the system)
#   simdcomp       -DQUANT_SIMDCOMP_ROOT=<folder>, built with the instruction sets that the benchmarks are built with
#
# <folder> holds include/ and lib/. For ONNX Runtime include/ is that of a release archive (onnxruntime_cxx_api.h in include/ or
# include/onnxruntime/), and lib/ the shared library of the same or a newer version.
option(QUANT_BENCHMARK_PEERS "Compare with the libraries that are found" ON)
set(quant_benchmark_peers "")
if(NOT QUANT_BENCHMARK_PEERS)
    return()
endif()

# quant_peer(<name> <header> LIBRARIES <name>... [SUFFIXES <folder below include>...] [OPTIONAL <library>...] [NEEDS <header>] [SYSTEM_LIBRARIES …])
function(quant_peer name header)
    cmake_parse_arguments(peer "" "" "LIBRARIES;SUFFIXES;OPTIONAL;NEEDS;SYSTEM_LIBRARIES" ${ARGN})
    string(TOUPPER "${name}" upper)
    set(QUANT_${upper}_ROOT "" CACHE PATH "Folder with include/ and lib/ of ${name}")
    find_path(QUANT_${upper}_INCLUDE "${header}" HINTS "${QUANT_${upper}_ROOT}/include" PATH_SUFFIXES ${peer_SUFFIXES})
    mark_as_advanced(QUANT_${upper}_INCLUDE)
    set(found "")
    foreach(library IN LISTS peer_LIBRARIES peer_OPTIONAL)
        find_library(QUANT_${upper}_LIBRARY_${library} "${library}" HINTS "${QUANT_${upper}_ROOT}/lib" "${QUANT_${upper}_ROOT}/lib64")
        mark_as_advanced(QUANT_${upper}_LIBRARY_${library})
        if(QUANT_${upper}_LIBRARY_${library})
            list(APPEND found "${QUANT_${upper}_LIBRARY_${library}}")
        elseif(NOT library IN_LIST peer_OPTIONAL)
            set(missing "${library}")
        endif()
    endforeach()
    foreach(needed IN LISTS peer_NEEDS) # headers that its header includes
        find_path(QUANT_${upper}_NEEDS "${needed}" HINTS "${QUANT_${upper}_ROOT}/include")
        mark_as_advanced(QUANT_${upper}_NEEDS)
        if(NOT QUANT_${upper}_NEEDS)
            set(missing "${needed}")
        endif()
    endforeach()
    if(NOT QUANT_${upper}_INCLUDE OR missing)
        message(STATUS "quant: benchmarks without ${name} (not found; see benchmarks/peers.cmake)")
        return()
    endif()
    # A copy of its own, so that a library's include folder and flags reach nobody else.
    add_library(quant_peer_${name} OBJECT "${CMAKE_CURRENT_SOURCE_DIR}/peer_${name}.cpp")
    target_link_libraries(quant_peer_${name} PRIVATE quant::quant benchmark::benchmark)
    target_include_directories(quant_peer_${name} SYSTEM PRIVATE "${QUANT_${upper}_INCLUDE}")
    file(STRINGS "${QUANT_${upper}_INCLUDE}/${header}" newer REGEX "xnn_create_unary_elementwise_nc")
    if(newer)
        target_compile_definitions(quant_peer_${name} PRIVATE QUANT_XNNPACK_UNARY=1)
    endif()
    target_link_libraries(quant_benchmarks PRIVATE quant_peer_${name} ${found} ${peer_SYSTEM_LIBRARIES})
    set(quant_benchmark_peers "${quant_benchmark_peers};${name}" PARENT_SCOPE)
endfunction()

find_package(Threads QUIET)
quant_peer(xnnpack xnnpack.h NEEDS pthreadpool.h LIBRARIES XNNPACK OPTIONAL pthreadpool cpuinfo)
quant_peer(onednn oneapi/dnnl/dnnl.hpp LIBRARIES dnnl)
quant_peer(onnxruntime onnxruntime_cxx_api.h LIBRARIES onnxruntime SUFFIXES onnxruntime onnxruntime/core/session)
quant_peer(ggml ggml.h LIBRARIES ggml-cpu ggml-base SYSTEM_LIBRARIES Threads::Threads ${CMAKE_DL_LIBS})
quant_peer(fbgemm fbgemm/QuantUtils.h LIBRARIES fbgemm OPTIONAL asmjit cpuinfo clog)
quant_peer(simdcomp simdcomp.h LIBRARIES simdcomp)
list(REMOVE_ITEM quant_benchmark_peers "")
