// SPDX-License-Identifier: MIT
// Runs a WebAssembly program with WASI under Node: node run_wasi.mjs program [argument]...; input, output and exit code are its own.
import { readFile } from 'node:fs/promises';
import process from 'node:process';
import { WASI } from 'node:wasi';

const wasi = new WASI({ version: 'preview1', args: process.argv.slice(2), env: {}, preopens: {}, returnOnExit: true });
const program = await WebAssembly.compile(await readFile(process.argv[2]));
// What getImportObject() returns, which Node 18 lacks.
const instance = await WebAssembly.instantiate(program, { wasi_snapshot_preview1: wasi.wasiImport });
process.exit(wasi.start(instance));
