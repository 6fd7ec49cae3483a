// The schema through the language service of VS Code, which most editors run: completion, hover and diagnostics of every
// property, alone and as a part of another schema.
import languageService from 'vscode-json-languageservice';
import { check, eachProperty, files, read, resolve, schema } from './check.mjs';

const { getLanguageService, ClientCapabilities, TextDocument } = languageService;

function service(own) {
  const service = getLanguageService({
    clientCapabilities: ClientCapabilities.LATEST,
    schemaRequestService: async (uri) => {
      if (!uri.endsWith('/convexity-switching.schema.json')) throw new Error(`nobody asked for ${uri}`);
      return JSON.stringify(schema);
    },
  });
  service.configure({ validate: true, schemas: [{ uri: 'file:///own.json', fileMatch: ['*.jsonc'], schema: own }] });
  return service;
}

const ours = { $ref: 'file:///convexity-switching.schema.json' };
const alone = { service: service(ours), wrap: (text) => text };
const nested = {
  service: service({ type: 'object', properties: { epochs: { type: 'integer' }, optimizer: ours } }),
  wrap: (text) => `{ "epochs": 3, "optimizer": ${text} }`,
};

// A text whose cursor is at the bar.
function open({ service, wrap }, marked) {
  const text = wrap(marked);
  const offset = text.indexOf('|');
  const document = TextDocument.create('file:///switching.jsonc', 'jsonc', 1, text.replace('|', ''));
  return { service, document, json: service.parseJSONDocument(document), position: document.positionAt(offset) };
}

async function complete(host, marked) {
  const { service, document, position, json } = open(host, marked);
  return (await service.doComplete(document, position, json)).items;
}

async function hover(host, marked) {
  const { service, document, position, json } = open(host, marked);
  // What the service escapes for Markdown, read back.
  return ((await service.doHover(document, position, json))?.contents ?? []).flat().join('\n').replaceAll(/\\(.)|&nbsp;/g, '$1 ');
}

async function problems(host, text) {
  const { service, document, json } = open(host, text);
  return service.doValidation(document, json, { comments: 'ignore', trailingCommas: 'ignore' });
}

const words = (text) => text.replaceAll(/\W+/g, '');

const checks = [];
const later = (body) => checks.push(body);

for (const [where, host] of Object.entries({ alone, nested })) {
  eachProperty(({ key, property, kind, rest, wrap, value }) => later(async () => {
    const name = `${where}: ${kind ?? ''}.${key}`;
    const object = (entries) => wrap(`{ ${entries.join(', ')} }`);
    const keys = await complete(host, object([...rest, '|']));
    const item = keys.find((item) => item.label === key);
    check(`${name} is completed`, item !== undefined, keys.map((item) => item.label));
    check(`${name} is documented in completion`, words(item?.documentation?.value ?? item?.documentation ?? '').length > 10);
    check(`${name} is offered once`, keys.filter((item) => item.label === key).length === 1);
    const again = await complete(host, object([...rest, `"${key}": ${value}`, '|']));
    check(`${name} is not offered twice`, !again.some((item) => item.label === key));
    const shown = await hover(host, object([...rest, `"${key.slice(0, 1)}|${key.slice(1)}": ${value}`]));
    // Where the value is one of several, the service explains the one that is chosen instead of the key.
    const meanings = [property, ...(resolve(property).oneOf ?? [])].map((place) => words(place.description));
    check(`${name} is explained`, meanings.some((meaning) => words(shown).includes(meaning)), shown);
    const right = await problems(host, object([...rest, `"${key}": ${value}`]));
    check(`${name} is taken`, right.length === 0, right.map((problem) => problem.message));
    const wrong = await problems(host, object([...rest, `"${key}": [[]]`]));
    check(`${name} is refused where it is wrong`, wrong.length > 0);
    const typo = await problems(host, object([...rest, `"${key}x": ${value}`]));
    check(`${name} is refused where it is misspelt`, typo.some((problem) => problem.message.includes(`${key}x`)));

    const place = resolve(property);
    const names = (place.oneOf ?? []).filter((name) => name.const);
    if (names.length > 0) {
      const values = await complete(host, object([...rest, `"${key}": |`]));
      for (const { const: value, description } of names) {
        const item = values.find((item) => item.label === `"${value}"`);
        const told = item?.documentation?.value ?? item?.documentation ?? '';
        check(`${name} completes and explains ${value}`, words(told).includes(words(description)), told);
      }
    }
    const kinds = (place.oneOf ?? []).filter((variant) => variant.properties);
    if (kinds.length > 0) {
      const blocks = await complete(host, object([...rest, `"${key}": |`]));
      for (const variant of kinds) {
        const label = variant.properties.kind.const;
        const block = blocks.find((item) => item.label === label);
        const inserted = object([...rest, `"${key}": ${block?.textEdit.newText ?? block?.insertText}`]);
        const wrong = await problems(host, inserted);
        check(`${name} completes ${label} as a whole block`, block && wrong.length === 0, inserted);
      }
    }
  }));
  later(async () => {
    const blocks = await complete(host, '|');
    for (const preset of schema.defaultSnippets) {
      const item = blocks.find((item) => item.label === preset.label);
      check(`${where}: the ${preset.label} preset is offered`, item !== undefined, blocks.map((item) => item.label));
    }
    const kinds = await complete(host, '{ "detector": { "kind": | } }');
    check(`${where}: nine kinds of detector`, kinds.filter((item) => item.label.startsWith('"')).length === 9);
    const inner = await complete(host, '{ "inner": { "kind": "sgd", | } }');
    const labels = inner.map((item) => item.label).filter((label) => label !== 'kind').sort();
    check(`${where}: a kind has its own keys`, labels.join() === 'momentum,weight_decay', labels);
  });
}

later(async () => {
  for (const file of files('tests/config/valid')) {
    const found = await problems(alone, read(file).replaceAll('|', '/'));
    check(`${file} is valid`, found.length === 0, found.map((problem) => problem.message));
  }
  for (const file of files('tests/config/invalid')) {
    // What the service does not see: rules between parameters, numbers too large, an empty file.
    if (/contradict|computer can hold|text is empty/.test(read(file.replace('.json', '.expected')))) continue;
    check(`${file} is invalid`, (await problems(alone, read(file))).length > 0);
  }
});

for (const body of checks) await body();
