// Says of each check whether it holds, a line each, as run.sh counts them.
import { readFileSync, readdirSync } from 'node:fs';

const repository = new URL('../../', import.meta.url);

export const read = (path) => readFileSync(new URL(path, repository), 'utf8');
export const schema = JSON.parse(read('schema/convexity-switching.schema.json'));

export const files = (folder) =>
  readdirSync(new URL(folder, repository)).filter((name) => name.endsWith('.json')).map((name) => `${folder}/${name}`);

export function check(name, holds, found) {
  const shown = holds || found === undefined ? '' : `: ${JSON.stringify(found)}`;
  console.log(`${holds ? 'ok' : 'not ok'} - ${name}${shown}`);
  if (!holds) process.exitCode = 1;
}

// Follow a reference of the schema, which stands alone or in an `allOf` beside annotations.
export function resolve(place) {
  const reference = place.$ref ?? place.allOf?.[0].$ref;
  const found = reference ? resolve(schema.definitions[reference.split('/').pop()]) : place;
  // An optional object: itself, or null.
  return found.anyOf ? resolve(found.anyOf[0]) : found;
}

// Call `visit` with every property of the schema: its key, its schema, a JSON text it may be set to, the other entries
// its object needs, and how that object becomes a whole file.
export function eachProperty(visit, place = schema, wrap = (object) => object, seen = []) {
  const object = resolve(place);
  if (seen.includes(object)) return;
  for (const variant of object.oneOf ?? [object]) {
    const kind = variant.properties?.kind?.const;
    const others = [
      ...(kind ? [`"kind": "${kind}"`] : []),
      ...(variant.properties?.of ? [`"of": ${JSON.stringify(variant.properties.of.examples[0])}`] : []),
    ];
    for (const [key, property] of Object.entries(variant.properties ?? {})) {
      const rest = others.filter((entry) => !entry.startsWith(`"${key}"`));
      const fallback = key === 'kind' ? kind : key === '$schema' ? './convexity-switching.schema.json' : property.examples?.[0];
      visit({ key, property, kind, rest, wrap, value: JSON.stringify(property.default ?? fallback ?? null) });
      const inner = (text) => wrap(`{ ${[...rest, `"${key}": ${text}`].join(', ')} }`);
      eachProperty(visit, property, inner, [...seen, object]);
    }
  }
}
