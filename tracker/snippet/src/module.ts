/** The snippet as a module of somebody's own bundle: `import { start } from 'kaskad-snippet'`. */
export { start } from './start';
