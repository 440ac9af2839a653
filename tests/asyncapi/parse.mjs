// Gives AsyncAPI's own parser the document that is named as the first argument, and prints what it finds and what it
// has read, as JSON. Runs in the folder that has the packages of package.json.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { cwd, argv, stdout } from 'node:process';

const require = createRequire(join(cwd(), 'package.json'));
const { Parser, DiagnosticSeverity } = require('@asyncapi/parser');
const yaml = createRequire(require.resolve('@asyncapi/parser'))('js-yaml');

const text = readFileSync(argv[2], 'utf8');
const { document, diagnostics } = await new Parser().parse(text);
const findings = diagnostics
  // A newer version of AsyncAPI is no fault of the document.
  .filter(({ code }) => code !== 'asyncapi-latest-version')
  .map(({ severity, path, message }) => `${DiagnosticSeverity[severity]} at ${path.join('/')}: ${message}`);
stdout.write(JSON.stringify({ parsed: document !== undefined, findings, read: yaml.load(text) }));
