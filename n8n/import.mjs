// Brings the three credentials and the workflows beside this file into n8n's database and publishes them; after that
// n8n itself starts, or starts anew. Safe to run again. Exit code 1 if n8n did not take all of it.
//
// It reads, each also as a file (NAME_FILE): INTERNAL_URL, the internal API's address, which the workflows call;
// INTERNAL_TOKEN, N8N_WEBHOOK_TOKEN, OPENAI_BASE_URL and OPENAI_API_KEY for the credentials; and all that n8n reads.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';

const SETTINGS = ['INTERNAL_URL', 'INTERNAL_TOKEN', 'N8N_WEBHOOK_TOKEN', 'OPENAI_BASE_URL', 'OPENAI_API_KEY'];
const WORKFLOWS = new URL('workflows/', import.meta.url);
const PLACEHOLDER = 'http://sluice-internal.invalid';

/** What n8n's HTTP nodes and webhooks show and ask for. tests/contract/test_images.py: the same as `make run` makes. */
export function credentials(settings) {
  const { hostname } = new URL(settings.OPENAI_BASE_URL);
  const isAzure = hostname.endsWith('.azure.com');
  const key = settings.OPENAI_API_KEY;
  const access = isAzure ? ['api-key', key] : ['Authorization', `Bearer ${key}`];
  return [
    ['sluiceInbound0001', 'Sluice: calls from the app', 'X-Sluice-Token', settings.N8N_WEBHOOK_TOKEN],
    ['sluiceInternal001', 'Sluice: calls to the app', 'X-Internal-Token', settings.INTERNAL_TOKEN],
    ['sluiceProvider001', 'Sluice: calls to the provider', ...access],
  ].map(([id, name, header, value]) => ({ id, name, type: 'httpHeaderAuth', data: { name: header, value } }));
}

function readSettings(env) {
  const settings = Object.fromEntries(SETTINGS.map((name) => [name, readSetting(env, name)]));
  const missing = SETTINGS.filter((name) => !settings[name]);
  if (missing.length) throw new Error(`not set: ${missing.join(', ')} (or each as NAME_FILE).`);
  return settings;
}

function readSetting(env, name) {
  const file = env[`${name}_FILE`];
  return file ? readFileSync(file, 'utf8').trim() : env[name];
}

/** The workflows beside this file, with the internal API's address in them. */
function readWorkflows(internalUrl) {
  const address = internalUrl.replace(/\/+$/, '');
  return readdirSync(WORKFLOWS)
    .filter((name) => name.endsWith('.json'))
    .map((name) => JSON.parse(readFileSync(new URL(name, WORKFLOWS), 'utf8').replaceAll(PLACEHOLDER, address)));
}

/** Run one of n8n's own commands. Its exit code is not enough: it is 0, too, for a file that n8n passes over. */
function n8n(...args) {
  const done = spawnSync('n8n', args, { stdio: ['ignore', 'inherit', 'inherit'] });
  if (done.error) throw done.error;
  if (done.status !== 0) throw new Error(`n8n ${args[0]} ended with ${done.status ?? done.signal}.`);
}

/** The workflows in n8n by id. With none the command fails, in words that would alarm: so it may not say them. */
function readStored(folder) {
  const file = join(folder, 'exported.json');
  rmSync(file, { force: true });
  spawnSync('n8n', ['export:workflow', '--all', `--output=${file}`], { stdio: 'ignore' });
  const stored = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : [];
  return new Map(stored.map((workflow) => [workflow.id, workflow]));
}

/** What people write in a workflow; the rest n8n adds. The order of nodes means nothing. */
function meaning({ id, name, nodes, connections, settings }) {
  const sorted = [...nodes].sort((one, other) => (one.id < other.id ? -1 : 1));
  return { id, name, nodes: sorted, connections, settings: settings ?? {} };
}

const isTaken = (inside, workflow) => Boolean(inside) && isDeepStrictEqual(meaning(inside), meaning(workflow));
const isPublished = (inside) => Boolean(inside?.active) && inside.activeVersionId === inside.versionId;

/** Import and publish the workflows that n8n does not have as they are. Throws an Error with those that it refuses. */
function bringIn(workflows, folder, write) {
  const stored = readStored(folder);
  const changed = workflows.filter((workflow) => !isTaken(stored.get(workflow.id), workflow));
  const toPublish = workflows.filter((workflow) => changed.includes(workflow) || !isPublished(stored.get(workflow.id)));
  if (!toPublish.length) return;

  const replaced = changed.map(({ id }) => stored.get(id)).filter(Boolean);
  if (replaced.length) console.log(`Other than in the image, and replaced now: ${names(replaced)}.`);

  // Its import would do that, but not before n8n's first start: until then nobody has the right.
  for (const { id } of changed) if (stored.get(id)?.active) n8n('unpublish:workflow', `--id=${id}`);
  if (changed.length) n8n('import:workflow', `--input=${write('workflows.json', changed)}`);
  for (const { id } of toPublish) n8n('publish:workflow', `--id=${id}`);

  const now = readStored(folder);
  const refused = workflows.filter((one) => !isTaken(now.get(one.id), one) || !isPublished(now.get(one.id)));
  if (refused.length) throw new Error(`n8n did not take over or publish ${names(refused)}; its reasons are above.`);
}

const names = (workflows) => workflows.map(({ name }) => `“${name}”`).join(', ');

function main() {
  const settings = readSettings(process.env);
  const workflows = readWorkflows(settings.INTERNAL_URL);
  const folder = mkdtempSync(join(tmpdir(), 'sluice-')); // mode 0700; gone afterwards, as it holds secrets
  const write = (name, content) => {
    writeFileSync(join(folder, name), JSON.stringify(content), { mode: 0o600 });
    return join(folder, name);
  };
  try {
    n8n('import:credentials', `--input=${write('credentials.json', credentials(settings))}`);
    bringIn(workflows, folder, write);
  } finally {
    rmSync(folder, { recursive: true });
  }
  console.log(`n8n has the credentials, and as they are here: ${names(workflows)}.`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    console.error(`The import failed: ${error.message}`);
    process.exitCode = 1;
  }
}
