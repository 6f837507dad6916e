// Makes dist/: the script for the tag, the module for bundles, the stub that a page has inline, and the parts that load on demand.
// The licence goes along into the npm package.
//   --out FOLDER        instead of dist/
//   --part NAME=FILE    one more part
//   --release           keeps what tags and scripts name for ever in released/
import { createHash } from 'node:crypto';
import { appendFileSync, copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

// The parts, by their names: lower-case letters, and where their source is. There are none yet.
const PARTS = {};

const { values: asked } = parseArgs({
  options: { out: { type: 'string', default: 'dist' }, part: { type: 'string', multiple: true, default: [] }, release: { type: 'boolean' } },
});
const { out } = asked;
const parts = { ...PARTS, ...Object.fromEntries(asked.part.map((part) => part.split('='))) };
const common = { bundle: true, minify: true, target: 'es2020', charset: 'utf8', legalComments: 'none', logLevel: 'warning' };
const digest = (file, kind, form) => createHash(kind).update(readFileSync(file)).digest(form);

const files = Object.fromEntries(Object.keys(parts).map((name) => [name, `${out}/part-${name}.js`]));
await Promise.all(
  Object.entries(files).map(([name, outfile]) => build({ ...common, entryPoints: [parts[name]], outfile, format: 'iife' })),
);
// The snippet loads exactly these bytes of its parts; tracker/script.py names versions the same way.
const known = Object.entries(files).map(([name, file]) => [
  name,
  digest(file, 'sha256', 'hex').slice(0, 16),
  `sha384-${digest(file, 'sha384', 'base64')}`,
]);
const whole = { ...common, define: { PARTS: JSON.stringify(known) } };
await Promise.all([
  build({ ...whole, entryPoints: ['src/tag.ts'], outfile: `${out}/tag.js`, format: 'iife' }),
  build({ ...whole, entryPoints: ['src/module.ts'], outfile: `${out}/module.js`, format: 'esm' }),
  build({ ...common, entryPoints: ['src/stub.js'], outfile: `${out}/stub.js`, bundle: false, target: 'es5' }),
]);
copyFileSync('../../LICENSE', 'LICENSE');

if (asked.release) {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  mkdirSync('released', { recursive: true });
  for (const file of [`${out}/tag.js`, ...Object.values(files)]) {
    const kept = `${version}-${basename(file)}`;
    copyFileSync(file, `released/${kept}`);
    appendFileSync('released/SHA256SUMS', `${digest(file, 'sha256', 'hex')}  ${kept}\n`);
  }
}
