// The rules of SchemaStore, a public catalogue of schemas: draft 7, valid for Ajv in strict mode, every property described,
// positive files that pass and negative ones that do not.
import Ajv from 'ajv';
import { parse } from 'jsonc-parser';
import { check, eachProperty, files, read, schema } from './check.mjs';

const ajv = new Ajv({ strict: true, allErrors: true });
// Keywords of editors, which Ajv does not know and the catalogue allows.
ajv.addVocabulary(['defaultSnippets']);
let validate = () => false;
try {
  validate = ajv.compile(schema);
  check('Ajv compiles the schema in strict mode', true);
} catch (error) {
  check('Ajv compiles the schema in strict mode', false, error.message);
}
check('the draft is 7', schema.$schema === 'http://json-schema.org/draft-07/schema#');
check('the $id is an address that names the version', /^https:\/\/.*\/\d+\.\d+\.\d+\//.test(schema.$id));
eachProperty(({ key, property, kind }) => {
  check(`${kind ?? ''}.${key} is described`, (property.description ?? '').length > 10);
});

for (const file of files('tests/config/valid')) {
  check(`${file} is valid`, validate(parse(read(file))), validate.errors);
}
for (const file of files('tests/config/invalid')) {
  const expected = read(file.replace('.json', '.expected'));
  // What no schema sees: broken JSON, keys given twice, rules between parameters.
  if (/not valid JSON|duplicate key|contradict/.test(expected)) continue;
  check(`${file} is invalid`, !validate(parse(read(file))));
}

// As a part of a user's own schema.
const own = { type: 'object', properties: { optimizer: { $ref: schema.$id } }, required: ['optimizer'] };
const nested = ajv.compile(own);
check('a reference takes what the schema takes', nested({ optimizer: parse(read('tests/config/valid/full.json')) }));
check('a reference refuses what the schema refuses', !nested({ optimizer: { windw: 3 } }));
