# SPDX-License-Identifier: MIT
# Wrong input and unwritable output: the exit code says which, stderr is one line that names the file, and nothing is
# left behind. Variables: program, data, scratch.

file(REMOVE_RECURSE "${scratch}")
file(MAKE_DIRECTORY "${scratch}")

# expect(<exit code> <text in the message> <arguments>...)
function(expect code text)
    execute_process(COMMAND "${program}" ${ARGN} RESULT_VARIABLE result OUTPUT_VARIABLE out ERROR_VARIABLE err)
    string(STRIP "${err}" line)
    list(JOIN ARGN " " arguments)
    if(NOT result EQUAL code)
        message(SEND_ERROR "digits ${arguments}: exit code ${result}, expected ${code}: ${line}")
    elseif(NOT line MATCHES "${text}")
        message(SEND_ERROR "digits ${arguments}: '${line}' does not mention '${text}'")
    elseif(NOT code EQUAL 2 AND line MATCHES "\n")
        message(SEND_ERROR "digits ${arguments}: more than one line: ${line}")
    endif()
endfunction()

# copy(<folder>): the data files, to be damaged.
function(copy folder)
    file(MAKE_DIRECTORY "${scratch}/${folder}")
    file(COPY "${data}/digits.csv.gz" "${data}/digits.safetensors" DESTINATION "${scratch}/${folder}")
endfunction()

# cut(<folder> <file> <bytes>): only the first bytes remain.
function(cut folder file bytes)
    copy(${folder})
    execute_process(COMMAND head -c ${bytes} "${data}/${file}" OUTPUT_FILE "${scratch}/${folder}/${file}"
                    COMMAND_ERROR_IS_FATAL ANY)
endfunction()

copy(no-weights)
file(REMOVE "${scratch}/no-weights/digits.safetensors")
expect(3 "digits.safetensors" --data "${scratch}/no-weights" --output "${scratch}/out")

copy(no-images)
file(REMOVE "${scratch}/no-images/digits.csv.gz")
expect(3 "digits.csv.gz" --data "${scratch}/no-images" --output "${scratch}/out")

# In the length, in the header, in the values, one byte short, empty.
foreach(bytes 0 5 100 30000 61951)
    cut(weights-${bytes} digits.safetensors ${bytes})
    expect(3 "digits.safetensors" --data "${scratch}/weights-${bytes}" --output "${scratch}/out")
endforeach()
foreach(bytes 0 5 30000 57511)
    cut(images-${bytes} digits.csv.gz ${bytes})
    expect(3 "digits.csv.gz" --data "${scratch}/images-${bytes}" --output "${scratch}/out")
endforeach()

copy(not-numbers)
file(WRITE "${scratch}/not-numbers/digits.csv.gz" "0,0,seven\n")
expect(3 "line 1" --data "${scratch}/not-numbers" --output "${scratch}/out")

# Tests may run as root, whom no permission stops: a file where a folder should be stops everybody.
file(WRITE "${scratch}/a-file" "")
expect(4 "a-file" --output "${scratch}/a-file")
expect(4 "a-file" --output "${scratch}/a-file/inside")
file(MAKE_DIRECTORY "${scratch}/taken/table.csv")
expect(4 "table.csv" --output "${scratch}/taken")
file(GLOB left RELATIVE "${scratch}/taken" "${scratch}/taken/.*" "${scratch}/taken/*")
if(NOT left STREQUAL "table.csv")
    message(SEND_ERROR "a failed run left files behind: ${left}")
endif()
expect(4 "no-such-folder" --output "${scratch}/out" --json "${scratch}/no-such-folder/report.json")

expect(2 "frobnicate" --frobnicate)
expect(2 "bits" --bits 9)
expect(2 "bits" --bits 1)
expect(2 "excludes" --weights-only --activations-only)
expect(2 "excludes" --check --train)
expect(2 "--check needs" --check --bits 4)
expect(2 "train" --epochs 5)
expect(2 "epochs" --train --epochs 0)
