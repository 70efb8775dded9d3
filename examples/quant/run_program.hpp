// SPDX-License-Identifier: MIT
#pragma once
// What every main of examples/ does around its work: arguments, failures as one line and an exit code, no partial output.

#include "io/atomic_file.hpp"
#include "io/error.hpp"

#include <CLI/CLI.hpp>
#include <exception>
#include <iostream>
#include <new>
#include <optional>
#include <string>

namespace quant_tool {

/// The exit code of `body()`, or of what it throws; that is one line on stderr then, behind the program's name.
template <class Body> int run_program(const char* name, const Body& body) {
    const auto fail = [&](const std::string& line, exit_code code) {
        std::cout.flush();
        std::cerr << name << ": " << line << '\n';
        return static_cast<int>(code);
    };
    install_cleanup_on_signals();
    try {
        return body();
    } catch (const error& e) {
        return fail(e.what(), e.code());
    } catch (const std::bad_alloc&) {
        return fail("out of memory", exit_code::internal);
    } catch (const std::exception& e) {
        return fail(std::string("internal error: ") + e.what(), exit_code::internal);
    }
}

/// Throws where the arguments are wrong, and says what to ask for help. An exit code: nothing is left to do (--help, --version).
inline std::optional<int> parse_arguments(CLI::App& app, int argc, char** argv, const std::string& help) {
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForVersion& e) {
        std::cout << e.what() << '\n'; // some versions of CLI11 print no end of line
        return 0;
    } catch (const CLI::ParseError& e) {
        if (e.get_exit_code() == 0) {
            return app.exit(e);
        }
        const std::string text = e.what();
        throw error(exit_code::usage, {}, text.substr(0, text.find('\n')) + " (" + help + ")");
    }
    return std::nullopt;
}

} // namespace quant_tool
