# SPDX-License-Identifier: MIT
#
# quant_add_multiarch(<target> SOURCES <file>... [ARCHS sse2 sse4_2 avx2 avx512bw avx512vnni])
#
# Compiles the sources once for each instruction set and adds the objects to the target, whose other files are compiled as
# before and choose at run time with quant/dispatch.hpp: quant::multiarch is the list of ARCHS, the best first. ARCHS is
# "sse2 avx2 avx512bw" if not given. The sources get the target's include folders, definitions, options and libraries as well.
# The target's other files must be compiled for the oldest processor that is to run the program.
# Where there is nothing to choose (other processors, MSVC) the sources become ordinary sources of the target.
function(quant_add_multiarch target)
    cmake_parse_arguments(PARSE_ARGV 1 multiarch "" "" "SOURCES;ARCHS")
    if(NOT TARGET ${target})
        message(FATAL_ERROR "quant_add_multiarch: no target ${target}")
    endif()
    if(NOT multiarch_SOURCES OR multiarch_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "quant_add_multiarch(<target> SOURCES <file>... [ARCHS <name>...]): ${multiarch_UNPARSED_ARGUMENTS}")
    endif()
    if(NOT multiarch_ARCHS)
        set(multiarch_ARCHS sse2 avx2 avx512bw)
    endif()
    # What quant/dispatch.hpp asks the processor for, and nothing else. -march= undoes a -march= of the whole project.
    set(known avx512vnni avx512bw avx2 sse4_2 sse2)
    set(flags_sse2 -march=x86-64)
    set(flags_sse4_2 -march=x86-64 -msse4.2 -mpopcnt)
    set(flags_avx2 ${flags_sse4_2} -mavx2 -mfma -mbmi -mbmi2)
    set(flags_avx512bw ${flags_avx2} -mavx512f -mavx512bw -mavx512cd -mavx512dq -mavx512vl)
    set(flags_avx512vnni ${flags_avx512bw} -mavx512vnni)
    foreach(arch IN LISTS multiarch_ARCHS)
        if(NOT arch IN_LIST known)
            message(FATAL_ERROR "quant_add_multiarch: no architecture ${arch}, there are: ${known}")
        endif()
    endforeach()
    if(MSVC OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
        target_sources(${target} PRIVATE ${multiarch_SOURCES})
        return()
    endif()

    # Below -O1 the standard library's inline functions become symbols of their own, with the instructions of whichever file
    # the linker takes them from.
    set(optimized "")
    foreach(config IN LISTS CMAKE_CONFIGURATION_TYPES ITEMS ${CMAKE_BUILD_TYPE} "")
        string(TOUPPER "${config}" upper)
        if(NOT "${CMAKE_CXX_FLAGS} ${CMAKE_CXX_FLAGS_${upper}}" MATCHES "-O([1-9sz]|fast)?( |$)")
            list(APPEND optimized "$<$<CONFIG:${config}>:-O1>")
        endif()
    endforeach()

    set(list "")
    foreach(arch IN LISTS known)
        if(NOT arch IN_LIST multiarch_ARCHS)
            continue()
        endif()
        list(APPEND list "quant::arch::${arch}")
        set(part ${target}_${arch})
        add_library(${part} OBJECT ${multiarch_SOURCES})
        get_target_property(type ${target} TYPE)
        get_target_property(pic ${target} POSITION_INDEPENDENT_CODE)
        if(pic OR type MATCHES "^(SHARED|MODULE)_LIBRARY$")
            set_target_properties(${part} PROPERTIES POSITION_INDEPENDENT_CODE ON)
        endif()
        target_include_directories(${part} PRIVATE "$<TARGET_PROPERTY:${target},INCLUDE_DIRECTORIES>")
        target_compile_definitions(${part} PRIVATE "$<TARGET_PROPERTY:${target},COMPILE_DEFINITIONS>")
        target_link_libraries(${part} PRIVATE quant::quant "$<TARGET_PROPERTY:${target},LINK_LIBRARIES>")
        # The target's own options first, so that its -march= does not win.
        target_compile_options(${part} PRIVATE "$<TARGET_PROPERTY:${target},COMPILE_OPTIONS>" ${optimized})
        foreach(flag IN LISTS flags_${arch})
            target_compile_options(${part} PRIVATE "SHELL:${flag}")
        endforeach()
        if(arch MATCHES "avx512" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
            # g++ 12 warns inside its own AVX-512 header.
            target_compile_options(${part} PRIVATE -Wno-maybe-uninitialized -Wno-uninitialized)
        endif()
        target_sources(${target} PRIVATE "$<TARGET_OBJECTS:${part}>")
    endforeach()
    list(JOIN list "," list)
    target_compile_definitions(${target} PRIVATE "QUANT_MULTIARCH=${list}")
endfunction()
