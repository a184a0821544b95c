/** Makes a small valid value for a JSON schema of ours: what is required, and nothing else. */
import fc from 'fast-check';

type Json = Readonly<Record<string, unknown>>;

const textOf = (schema: Json, instant: string): string => {
  switch (schema['format']) {
    case 'date-time':
      return instant;
    case 'uri':
      return 'https://example.com/';
    case 'email':
      return 'somebody@example.com';
    default:
  }
  if (typeof schema['pattern'] === 'string') {
    const minLength = (schema['minLength'] as number | undefined) ?? 1;
    const maxLength = (schema['maxLength'] as number | undefined) ?? 40;
    const matching = fc.stringMatching(new RegExp(schema['pattern'])).filter(each => each.length >= minLength && each.length <= maxLength);
    return fc.sample(matching, { numRuns: 1, seed: 1 })[0] as string;
  }
  return 'x'.repeat(Math.max(1, (schema['minLength'] as number | undefined) ?? 1));
};

/**
 * @param resolve finds the schema that a `$ref` names
 * @param instant what every date is
 */
export const sampleOf = (schema: Json, resolve: Resolve, instant: string): unknown => {
  const visit = (each: Json, root: Json): unknown => {
    if (typeof each['$ref'] === 'string') {
      const { value, root: next } = resolve(each['$ref'], root);
      return visit(value, next);
    }
    if ('const' in each) {
      return each['const'];
    }
    if (Array.isArray(each['enum'])) {
      return each['enum'][0];
    }
    const [choice] = ((each['oneOf'] ?? each['anyOf']) as Json[] | undefined) ?? [];
    if (choice) {
      return visit(choice, root);
    }
    switch (each['type']) {
      case 'object': {
        const properties = (each['properties'] ?? {}) as Record<string, Json>;
        const required = (each['required'] ?? []) as string[];
        return Object.fromEntries(required.map(name => [name, visit(properties[name] ?? { type: 'string' }, root)]));
      }
      case 'array':
        return Array.from({ length: (each['minItems'] as number | undefined) ?? 0 }, () => visit(each['items'] as Json, root));
      case 'integer':
      case 'number':
        return (each['minimum'] as number | undefined) ?? 1;
      case 'boolean':
        return true;
      case 'string':
        return textOf(each, instant);
      default:
        return {};
    }
  };
  return visit(schema, schema);
};

/** A schema, and the file it stands in. */
interface Found {
  readonly value: Json;
  readonly root: Json;
}
type Resolve = (ref: string, root: Json) => Found;

/** Finds what a `$ref` names: in the file itself, or in the published one whose path it gives (relative to the file's `$id`). */
export const makeResolver =
  (files: ReadonlyMap<string, unknown>): Resolve =>
  (ref, root) => {
    const [file = '', pointer = ''] = ref.split('#');
    const document = file === '' ? root : (files.get(new URL(file, `http://schemas${String(root['$id'])}`).pathname) as Json);
    const value = pointer
      .split('/')
      .slice(1)
      .reduce((node, key) => node[key] as Json, document);
    return { value, root: document };
  };
