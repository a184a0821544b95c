import { routingKeyMatches } from '@tscluster/api/routing-key.ts';
import { describe, expect, it, test } from 'vitest';
import { TopicIndex } from './topic-index.ts';

const EXCHANGE = 'exchange/x';
const match = (index: TopicIndex<string>, key: string, cc: string[] = []): string[] => [...index.match(EXCHANGE, key, cc)].sort();
const indexOf = (...patterns: string[]): TopicIndex<string> => {
  const index = new TopicIndex<string>();
  patterns.forEach(pattern => index.add({ exchange: EXCHANGE, pattern }, pattern));
  return index;
};

describe('an index of patterns', () => {
  it('finds those that match, as a topic exchange does', () => {
    const index = indexOf('a.b', 'a.*', 'a.#', '#', '*', '#.b', 'a.#.b', '*.*', 'a.b.#');
    expect(match(index, 'a.b')).toEqual(['#', '#.b', '*.*', 'a.#', 'a.#.b', 'a.*', 'a.b', 'a.b.#']);
    expect(match(index, 'a')).toEqual(['#', '*', 'a.#']);
    expect(match(index, 'a.c.d.b')).toEqual(['#', '#.b', 'a.#', 'a.#.b']);
    expect(match(index, '')).toEqual(['#', '*']);
  });

  it('looks at every key of an event, and finds each value once', () => {
    const index = indexOf('a', 'route.#', 'route.x');
    index.add({ exchange: EXCHANGE, pattern: 'b' }, 'a');
    expect(match(index, 'a', ['route.x', 'b'])).toEqual(['a', 'route.#', 'route.x']);
    expect([...index.match('exchange/y', 'a', [])]).toEqual([]);
  });

  it('forgets what is taken out, and nothing else', () => {
    const index = indexOf('a.b', 'a.#', 'a.*.c', '#');
    index.delete({ exchange: EXCHANGE, pattern: 'a.#' }, 'a.#');
    index.delete({ exchange: EXCHANGE, pattern: 'a.#' }, 'a.#');
    index.delete({ exchange: EXCHANGE, pattern: 'a.x' }, 'a.x');
    index.delete({ exchange: EXCHANGE, pattern: 'a.b' }, 'somebody else');
    index.delete({ exchange: 'exchange/y', pattern: 'a' }, 'a');
    expect(match(index, 'a.b')).toEqual(['#', 'a.b']);
    expect([...index.exchanges]).toEqual([EXCHANGE]);
    for (const pattern of ['a.b', 'a.*.c', '#']) {
      index.delete({ exchange: EXCHANGE, pattern }, pattern);
    }
    expect([...index.exchanges]).toEqual([]);
  });

  it('takes no longer for patterns that could be matched in a great many ways', () => {
    const index = indexOf(Array.from({ length: 60 }, () => '#.a').join('.'), `${Array.from({ length: 60 }, () => '#.a').join('.')}.b`);
    expect(match(index, Array.from({ length: 127 }, () => 'a').join('.'))).toEqual([Array.from({ length: 60 }, () => '#.a').join('.')]);
  });
});

/** mulberry32. */
const randomOf = (seed: number): ((below: number) => number) => {
  let state = seed;
  return below => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
};

test('agrees with the match of one pattern, for random patterns and keys that come and go', () => {
  const random = randomOf(20_261_121);
  const words = ['a', 'b', 'cc', '*', '#'];
  const index = new TopicIndex<string>();
  const present = new Set<string>();
  for (let round = 0; round < 3_000; round++) {
    const pattern = Array.from({ length: 1 + random(5) }, () => words[random(5)]).join('.');
    if (random(3) === 0) {
      present.delete(pattern);
      index.delete({ exchange: EXCHANGE, pattern }, pattern);
    } else if (present.size < 40) {
      present.add(pattern);
      index.add({ exchange: EXCHANGE, pattern }, pattern);
    }
    const key = Array.from({ length: 1 + random(5) }, () => words[random(3)]).join('.');
    expect(match(index, key), key).toEqual([...present].filter(each => routingKeyMatches(each, key)).sort());
  }
});
