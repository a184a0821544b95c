import { describe, expect, test } from 'vitest';
import type { BusEvent } from '../events.ts';
import { type Binding, bindingsMatch, makeGlance } from './bus.ts';

const event = (exchange: string, routingKey: string, cc: readonly string[] = []): BusEvent => ({
  id: '1-0',
  exchange,
  routingKey,
  cc,
  payload: {},
});
const textOf = (...events: BusEvent[]): string => events.map(each => JSON.stringify(each)).join(',');

describe('a glance at an outbox text', () => {
  const bindings: Binding[] = [
    { exchange: 'e/task-failed', pattern: 'route.notify.#.on-failed' },
    { exchange: 'e/task-failed', pattern: 'route.index.#' },
    { exchange: 'e/task-done', pattern: 'primary.*.0' },
    { exchange: 'e/exact', pattern: 'primary.x' },
    { exchange: 'e/all', pattern: '#' },
    { exchange: 'e/quoted', pattern: 'route.a"b.#' },
  ];
  const glance = makeGlance(bindings);

  test.each([
    [event('e/task-failed', 'primary.a', ['route.notify.email.x.on-failed']), true],
    [event('e/task-failed', 'primary.a', ['route.index.x']), true],
    [event('e/task-failed', 'primary.a', ['route.other.x']), false],
    [event('e/task-failed', 'primary.a', []), false],
    [event('e/task-done', 'primary.a.0'), true],
    [event('e/task-done', 'secondary.a.0'), false],
    [event('e/exact', 'primary.x'), true],
    [event('e/all', ''), true],
    [event('e/quoted', 'k', ['route.a"b.c']), true],
    [event('e/none', 'primary.x'), false],
  ])('%j: %s', (one, wanted) => {
    expect(glance(textOf(one))).toBe(wanted);
    expect(glance(textOf(event('e/none', 'x'), one))).toBe(wanted);
  });

  test('never overlooks what a binding matches', () => {
    const words = ['a', 'b"', 'c\\', 'ü', '*', '#', ''];
    const keys = words.flatMap(a => words.flatMap(b => words.map(c => [a, b, c].join('.'))));
    for (const pattern of keys) {
      const binding = { exchange: 'e', pattern };
      const only = makeGlance([binding]);
      for (const key of keys.filter((_, i) => i % 5 === 0)) {
        for (const one of [event('e', key), event('e', 'other', [key])]) {
          if (bindingsMatch([binding], one)) {
            expect(only(textOf(one)), `${pattern} matches ${key}`).toBe(true);
          }
        }
      }
    }
  });
});
