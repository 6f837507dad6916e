// Makes dist/: the script for the tag, the module for bundles, and the stub that a page has inline. The licence goes along
// into the npm package.
import { copyFileSync } from 'node:fs';
import { build } from 'esbuild';

const common = { bundle: true, minify: true, target: 'es2020', charset: 'utf8', legalComments: 'none', logLevel: 'warning' };
await Promise.all([
  build({ ...common, entryPoints: ['src/tag.ts'], outfile: 'dist/tag.js', format: 'iife' }),
  build({ ...common, entryPoints: ['src/module.ts'], outfile: 'dist/module.js', format: 'esm' }),
  build({ ...common, entryPoints: ['src/stub.js'], outfile: 'dist/stub.js', bundle: false, target: 'es5' }),
]);
copyFileSync('../../LICENSE', 'LICENSE');
