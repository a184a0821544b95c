import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readGraph, splitGraph } from './read-graph.ts';

const itemsOf = (text: string): unknown => {
  const read = readGraph(text);
  return 'count' in read ? Array.from({ length: read.count }, (_, i) => read.parse(i)) : read;
};
const refusal = (text: string): string => {
  try {
    itemsOf(text);
  } catch (error) {
    return (error as { code: string }).code;
  }
  return 'none';
};

describe('a graph', () => {
  test('is read item by item', () => {
    expect(itemsOf('{"tasks":[{"a":1},{"b":"}]\\"{"}]}')).toEqual([{ a: 1 }, { b: '}]"{' }]);
    expect(itemsOf(' {\n"tasks" :\t[ {} ,\r\n{"a":{"b":[{}]}} ] } \n')).toEqual([{}, { a: { b: [{}] } }]);
    expect(itemsOf('\ufeff{"tasks":[{"a":"\\\\"},{"b":"\\\\\\""}]}')).toEqual([{ a: '\\' }, { b: '\\"' }]);
  });

  test('of another layout is read as a whole', () => {
    for (const text of [
      '{"tasks":[]}',
      '{"tasks":[1]}',
      '{"tasks":[{},1]}',
      '{"tasks":[{}],"more":1}',
      '{"t\\u0061sks":[{}]}',
      '[]',
      '5',
      '{}',
    ]) {
      expect(itemsOf(text)).toEqual({ body: JSON.parse(text) as unknown });
    }
    expect(itemsOf('  ')).toEqual({ body: {} });
  });

  test('that is not JSON is refused', () => {
    for (const text of [
      '{"tasks":[{}]',
      '{"tasks":[{}}',
      '{"tasks":[{}]]}',
      '{"tasks":[{},]}',
      '{"tasks":[{}{}]}',
      '{"tasks":[{"a]}',
      '{"tasks":[{]}',
      '{"tasks":[{"a":tru}]}',
      '{"tasks":[{"a":"\n"}]}',
      '{"tasks":[{}]} x',
      '{"tasks":[{}],}',
      '{"tasks":[{"a":[}]]}',
    ]) {
      expect(refusal(text)).toBe('MalformedPayload');
    }
  });

  test('that is nested too deeply is refused', () => {
    const nested = (levels: number): string => `{"tasks":[{"a":${'['.repeat(levels)}${']'.repeat(levels)}}]}`;
    expect(itemsOf(nested(253))).toHaveLength(1);
    expect(refusal(nested(254))).toBe('MalformedPayload');
    expect(refusal(nested(1_000_000))).toBe('MalformedPayload');
  });

  test('is what JSON.parse makes of it, whatever it holds', () => {
    const spaced = fc.constantFrom(undefined, 1, '\t');
    fc.assert(
      fc.property(fc.array(fc.dictionary(fc.string(), fc.jsonValue()), { minLength: 1, maxLength: 5 }), spaced, (tasks, indent) => {
        const text = JSON.stringify({ tasks }, null, indent);
        expect(splitGraph(text)?.length).toBe(2 * tasks.length);
        expect(itemsOf(text)).toEqual((JSON.parse(text) as { tasks: unknown }).tasks);
      }),
    );
  });

  test('is refused where JSON.parse refuses it, and only there', () => {
    const pieces = fc.constantFrom('{', '}', '[', ']', '"', '\\', ',', ':', '"a"', '1', ' ', '{"tasks":[', '{"a":"b"}', ']}');
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 12 }), parts => {
        const text = `{"tasks":[${parts.join('')}]}`;
        let parsed: unknown;
        try {
          parsed = JSON.parse(text);
        } catch {
          expect(refusal(text)).toBe('MalformedPayload');
          return;
        }
        const read = itemsOf(text);
        expect(Array.isArray(read) ? { tasks: read } : (read as { body: unknown }).body).toEqual(parsed);
      }),
      { numRuns: 2_000 },
    );
  });
});
