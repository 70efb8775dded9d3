// SPDX-License-Identifier: MIT
// Never compiled: lends a target its compile options.
